"""What a site should know of its rows before it trains on them; said to the local operator alone (PRIVACY P15)."""

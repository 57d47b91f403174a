"""How a ledger's tables came to be, one step a schema. Alembic runs them; nothing needs alembic.ini."""

"""What both sides of a federation must agree on. Imports none of the other rooms."""

"""A federation across institutions: certificates, keys, invitations, and the Flower processes behind it."""

"""The ledger of an institution: signed, chained, append-only entries about what its data cost.

=============  ======================================================================================
canonical      one value, one sequence of bytes (RFC 8785)
details        what each kind of entry says
entry          an entry: fields, hash, signature
history        what the entries add up to
order          the order rules: what may follow what
rules          verification of a bundle: bytes become a ``VerifiedLedger`` or an ``AuditFailure``
heads          which witnessed heads a ledger does not know
keys           the site's signing key
commitment     keyed commitments to the data
schema, store  tables, migrations and transactions on SQLite or PostgreSQL
book           the ledger in use: sync, verify, sign, append
bundle         a portable file that needs no database to verify
=============  ======================================================================================

``docs/ledger-format.md`` says all of it for a verifier in another language.
"""

"""Networks that classify texts, one family a file, written in Glueball's dialect.

All are called as ``network(token_ids, valid_length)``: token_ids (batch, length) int32, valid_length (batch,) float32,
how many of a row's tokens are text. What lies beyond is padding: whatever it holds and however long it is, the answer
is the same. Nothing is imported here: a model's module selects the backend when it is imported, and listing models must
not.
"""

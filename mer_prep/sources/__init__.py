"""One module per corpus, and what they share: annotations (workbooks) and frames (decoding)."""

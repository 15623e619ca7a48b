"""Reports: HTML pages that hold everything they show and ask nothing of any server."""

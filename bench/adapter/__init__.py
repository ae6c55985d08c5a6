"""How the adapter that ships is made: low-rank changes to the embedder, trained on queries and their tools."""

"""Stand-ins for the five upstreams, written from their manuals; imports nothing else of this project."""

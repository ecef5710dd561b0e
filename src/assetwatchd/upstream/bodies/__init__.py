"""What upstreams sent, read within limits: JSON, XML, text that is not quite text; large answers in a process."""

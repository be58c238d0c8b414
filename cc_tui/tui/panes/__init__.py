"""The panes: each shows one side of the session's picture at the cursor."""

"""What `tidemark doctor` looks at: one file for each thing that Tidemark depends on."""

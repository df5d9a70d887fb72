//! Effects on the API server that any controller needs.

//! nginx-rs: a server for existing nginx configurations.

//! What modules leave on a request for others to read as variables, and what they hold until it ends.

use std::any::Any;

/// Verdicts and things held.
#[derive(Debug, Default)]
pub struct Marks {
    /// `$limit_req_status`, once a limit was looked at.
    pub limit_req: Option<&'static str>,
    /// `$limit_conn_status`, once a limit was looked at.
    pub limit_conn: Option<&'static str>,
    /// What is given back when the request ends: places in `limit_conn` zones.
    pub held: Vec<Box<dyn Any>>,
}

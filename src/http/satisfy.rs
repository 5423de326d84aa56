//! What all who guard a place say together: <https://nginx.org/en/docs/http/ngx_http_core_module.html#satisfy>

use super::{Flow, Known, Request};
use crate::net::Level;

/// The verdicts so far.
#[derive(Debug)]
pub struct Satisfy {
    any: bool,
    refused: Option<u16>,
}

impl Satisfy {
    /// Nobody was asked yet; `any` is whether one consent is enough.
    pub fn new(any: bool) -> Self {
        Self { any, refused: None }
    }

    /// Takes one verdict; what it returns ends the asking.
    pub fn take(&mut self, request: &mut Request, flow: Flow) -> Option<Flow> {
        match flow {
            Flow::Next => None,
            Flow::Allow if self.any => {
                request.carried.headers.retain(|field| field.known != Known::WwwAuthenticate);
                Some(Flow::Next)
            }
            Flow::Allow => None,
            Flow::Fail(status @ (401 | 403)) if self.any => {
                if self.refused != Some(401) {
                    self.refused = Some(status);
                }
                None
            }
            flow => Some(flow),
        }
    }

    /// The verdict when all were asked.
    pub fn end(self, request: &Request) -> Flow {
        if self.refused == Some(403) {
            request.log(Level::Error, "access forbidden by rule");
        }
        self.refused.map_or(Flow::Next, Flow::Fail)
    }
}

//! Waiting on purpose, while the client may leave (`limit_req`, `auth_delay`).

use std::rc::Rc;
use std::time::Duration;

use super::{Flow, Request};
use crate::net::Level;

/// Waits; the failure is a client that left meanwhile.
pub async fn pause(request: &Request, time: Duration) -> Result<(), Flow> {
    let client = Rc::clone(&request.client);
    let gone = async {
        match &client.h2 {
            Some(side) => side.gone().await,
            None => client.stream.hung_up().await,
        }
    };
    tokio::select! {
        biased;
        () = tokio::time::sleep(time) => Ok(()),
        () = gone => {
            request.log(Level::Info, "client prematurely closed connection");
            Err(Flow::Fail(499))
        }
    }
}

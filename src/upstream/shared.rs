//! What all upstream protocols read of their settings while they serve.
//!
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html>

use super::Conf;
use crate::http::headers::Known;

/// The settings, and what follows from them.
pub struct Shared {
    /// The settings.
    pub conf: Conf,
    /// The fields of responses that are kept back.
    pub hidden: Names,
    /// Fields of responses that have no effect.
    pub ignored: Names,
}

impl Shared {
    /// Works out the fields that are kept back: those that the protocol hides, and `*_hide_header` but `*_pass_header`.
    pub fn seal(conf: Conf, hides: &[&str]) -> Self {
        let mut hidden = Names::default();
        hides.iter().for_each(|name| hidden.insert(name.as_bytes()));
        conf.hide_header.iter().for_each(|name| hidden.insert(name));
        conf.pass_header.iter().for_each(|name| hidden.remove(name));
        let mut ignored = Names::default();
        conf.ignore_headers.iter().for_each(|name| ignored.insert(name));
        Self { conf, hidden, ignored }
    }
}

/// A set of field names.
#[derive(Clone, Debug, Default)]
pub struct Names {
    known: Vec<Known>,
    others: Vec<Vec<u8>>,
}

impl Names {
    /// Adds a name.
    pub fn insert(&mut self, name: &[u8]) {
        match Known::of(name) {
            Known::Other => self.others.push(name.to_ascii_lowercase()),
            known => self.known.push(known),
        }
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &[u8]) {
        let known = Known::of(name);
        self.known.retain(|other| *other != known || known == Known::Other);
        self.others.retain(|other| !other.eq_ignore_ascii_case(name));
    }

    /// Whether it holds this field.
    pub fn has(&self, known: Known, name: &[u8]) -> bool {
        match known {
            Known::Other => self.others.iter().any(|other| other.eq_ignore_ascii_case(name)),
            known => self.known.contains(&known),
        }
    }
}

//! TLS towards upstream servers: the rows all protocols share, and the handshake
//! (<https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_ssl_verify>).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use rustls::ClientConfig;

use super::Conf as Upstream;
use crate::conf::args::text;
use crate::conf::{Contexts, Diag, Directive, Env, Field as _, many, on};
use crate::http::identities::{Limits, Named};
use crate::http::tls::{self, Common, command, file, passwords};
use crate::http::{Request, Value};
use crate::net::Level;
use crate::net::tls::{Dial, Identity, Trust, config};

/// Settings of a scope.
#[derive(Clone, Debug, Default)]
pub struct Conf {
    common: Common,
    name: Option<Value>,
    names_server: bool,
    verify: bool,
    depth: Option<u64>,
    trusted: Option<Bytes>,
    crl: Option<Bytes>,
    /// As it is written, and as it is read.
    certificate: Option<(Bytes, Value)>,
    key: Option<Value>,
    cache: Option<Limits>,
    passwords: Option<Arc<Vec<Vec<u8>>>>,
    no_reuse: bool,
}

const SCOPES: Contexts = Contexts::SCOPES;

/// Rows without their prefix.
pub const SECURE: &[Directive<Upstream>] = &[
    on("ssl_session_reuse", SCOPES, 1..=1, |c, a| {
        let mut reuse = true;
        a.set(&mut reuse)?;
        c.secure.no_reuse = !reuse;
        Ok(())
    }),
    many("ssl_protocols", SCOPES, 1..=255, |c, a| c.secure.common.versions.read(a)),
    on("ssl_ciphers", SCOPES, 1..=1, |c, a| {
        c.secure.common.ciphers = Some(text(a.word(0)).into_owned());
        Ok(())
    }),
    on("ssl_name", SCOPES, 1..=1, |c, a| a.set(&mut c.secure.name)),
    on("ssl_server_name", SCOPES, 1..=1, |c, a| a.set(&mut c.secure.names_server)),
    on("ssl_verify", SCOPES, 1..=1, |c, a| a.set(&mut c.secure.verify)),
    on("ssl_verify_depth", SCOPES, 1..=1, |c, a| a.set(&mut c.secure.depth)),
    on("ssl_trusted_certificate", SCOPES, 1..=1, |c, a| {
        file(&mut c.secure.trusted, a);
        Ok(())
    }),
    on("ssl_crl", SCOPES, 1..=1, |c, a| {
        file(&mut c.secure.crl, a);
        Ok(())
    }),
    on("ssl_certificate", SCOPES, 1..=1, |c, a| {
        let value = Value::read(a.word(0), a)?;
        c.secure.certificate = Some((Bytes::copy_from_slice(a.word(0)), value));
        Ok(())
    }),
    on("ssl_certificate_key", SCOPES, 1..=1, |c, a| a.set(&mut c.secure.key)),
    on("ssl_certificate_cache", SCOPES, 1..=3, |c, a| {
        c.secure.cache = Limits::read(a)?;
        Ok(())
    }),
    on("ssl_password_file", SCOPES, 1..=1, |c, a| {
        c.secure.passwords = Some(passwords(a)?);
        Ok(())
    }),
    many("ssl_conf_command", SCOPES, 2..=2, |c, a| command(&mut c.secure.common.commands, a)),
];

/// What a place talks TLS with.
pub struct Dialer {
    /// The same for the same settings and certificates.
    id: u64,
    config: Arc<ClientConfig>,
    name: Option<Value>,
    names_server: bool,
    trust: Option<Arc<Trust>>,
    named: Option<Named>,
}

impl Conf {
    /// Reads certificates and keys; `prefix` is that of the protocol's directives, for messages.
    pub fn seal(&self, prefix: &str, http2: bool, env: &mut Env) -> Result<Arc<Dialer>, Diag> {
        let general = |text: String| Diag::general(text, None);
        let (choices, warnings) = self.common.choices().map_err(general)?;
        let (identity, named) = self.identity(prefix, env).map_err(general)?;
        let trust = self.trust(prefix, env).map_err(general)?;
        for warning in warnings {
            let diag = general(warning).warning();
            if !env.warnings.contains(&diag) {
                env.warnings.push(diag);
            }
        }
        let mut hash = DefaultHasher::new();
        format!("{self:?}{trust:?}{http2}").hash(&mut hash);
        identity.as_ref().map(|identity| &identity.cert).hash(&mut hash);
        let settings = config::Client {
            choices,
            identity,
            names_server: self.names_server,
            // A session must not be gone on with under another certificate.
            resumes: !self.no_reuse && named.is_none(),
            alpn: if http2 { vec![b"h2".to_vec()] } else { Vec::new() },
        };
        let config = config::client(settings).map_err(|error| general(error.to_string()))?;
        Ok(Arc::new(Dialer {
            id: hash.finish(),
            config: Arc::new(config),
            name: self.name.clone(),
            names_server: self.names_server,
            trust,
            named,
        }))
    }

    fn identity(&self, prefix: &str, env: &Env) -> Result<(Option<Identity>, Option<Named>), String> {
        let passwords = self.passwords.clone().unwrap_or_default();
        if let (Some(cert), Some(key)) = (self.common.command("certificate"), self.common.command("privatekey")) {
            let pair = (cert.as_bytes(), key.as_bytes());
            return Ok((Some(tls::identity(pair, &passwords, env, "SSL_CTX_use_PrivateKey")?), None));
        }
        let Some((name, cert)) = self.certificate.as_ref().filter(|(name, _)| !name.is_empty()) else {
            return Ok((None, None));
        };
        let Some(key) = &self.key else {
            let name = text(name);
            return Err(format!("no \"{prefix}ssl_certificate_key\" is defined for certificate \"{name}\""));
        };
        match (cert.as_literal(), key.as_literal()) {
            (Some(cert), Some(key)) => {
                let identity = tls::identity((cert, key), &passwords, env, "SSL_CTX_use_PrivateKey")?;
                Ok((Some(identity), None))
            }
            _ => Ok((
                None,
                Some(Named {
                    pairs: vec![(cert.clone(), key.clone())],
                    passwords,
                    cache: self.cache,
                    prefix: env.conf_prefix.clone(),
                }),
            )),
        }
    }

    fn trust(&self, prefix: &str, env: &Env) -> Result<Option<Arc<Trust>>, String> {
        if !self.verify {
            return Ok(None);
        }
        let Some(name) = &self.trusted else {
            return Err(format!("no {prefix}ssl_trusted_certificate for {prefix}ssl_verify"));
        };
        let roots = tls::certificates(name, env)?;
        let crls = self.crl.as_ref().map(|name| tls::crls(name, env)).transpose()?.unwrap_or_default();
        let depth = usize::try_from(self.depth.unwrap_or(1)).unwrap_or(usize::MAX);
        Ok(Some(Arc::new(Trust::new(roots, crls, depth))))
    }
}

impl Dialer {
    /// Works out names and certificates; the error is the status to answer with.
    pub fn prepare(&self, scheme: &'static str, host: &[u8], request: &Request) -> Result<Dial, u16> {
        let name = self.name.as_ref().map_or_else(|| host.to_vec(), |name| name.get(request).into_owned());
        let name = text(without_port(&name)).into_owned();
        let mut config = Arc::clone(&self.config);
        let mut hash = DefaultHasher::new();
        self.id.hash(&mut hash);
        if self.names_server || self.trust.is_some() {
            name.hash(&mut hash);
        }
        if let Some(named) = &self.named {
            let found = named.load(request).map_err(|problem| {
                request.log(Level::Error, &format!("{problem} while SSL handshaking to upstream"));
                500u16
            })?;
            if let Some(identity) = found.into_iter().next() {
                identity.cert.hash(&mut hash);
                config = Arc::new(config::with_identity(&config, identity));
            }
        }
        Ok(Dial { config, trust: self.trust.clone(), scheme, name, tag: hash.finish() | 1 })
    }
}

/// A name as hosts are written, without a port behind it.
fn without_port(name: &[u8]) -> &[u8] {
    let inside = if name.first() == Some(&b'[') { name.iter().position(|&b| b == b']').unwrap_or(0) } else { 0 };
    let end = name.iter().skip(inside).position(|&b| b == b':').map_or(name.len(), |at| at + inside);
    name.get(..end).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_no_part_of_names() {
        for (name, want) in [("a", "a"), ("a:1", "a"), ("[::1]:1", "[::1]"), ("[::1]", "[::1]"), ("", "")] {
            assert_eq!(without_port(name.as_bytes()), want.as_bytes());
        }
    }
}

//! Directives that nginx 1.31 does not have: what it had instead of them once, and whose they are otherwise.
//!
//! <https://nginx.org/en/CHANGES>, <https://docs.nginx.com/nginx/releases/>

/// Directives that nginx had once: the version that took them away, where it matters, and what to write.
const REMOVED: [(&str, &str, &str); 14] = [
    ("ssl", "1.25.1", "\"listen … ssl\""),
    ("http2_push", "1.25.1", "a \"Link\" field or \"early_hints\""),
    ("http2_push_preload", "1.25.1", "a \"Link\" field or \"early_hints\""),
    ("spdy_headers_comp", "1.9.5", "\"http2 on\""),
    ("spdy_chunk_size", "1.9.5", "\"http2_chunk_size\""),
    ("limit_zone", "1.7.6", "\"limit_conn_zone\""),
    ("satisfy_any", "", "\"satisfy any\""),
    ("optimize_server_names", "", "\"server_name_in_redirect\""),
    ("open_file_cache_retest", "", "\"open_file_cache_valid\""),
    ("proxy_upstream_max_fails", "", "\"max_fails\" of \"server\""),
    ("proxy_upstream_fail_timeout", "", "\"fail_timeout\" of \"server\""),
    ("fastcgi_upstream_max_fails", "", "\"max_fails\" of \"server\""),
    ("connections", "", "\"worker_connections\""),
    ("imap", "", "\"mail\""),
];

/// Directives of NGINX Plus.
const PLUS: [&str; 14] = [
    "api",
    "auth_jwt",
    "auth_jwt_key_file",
    "auth_jwt_key_request",
    "health_check",
    "keyval",
    "keyval_zone",
    "match",
    "ntlm",
    "queue",
    "state",
    "status",
    "status_zone",
    "zone_sync",
];

/// Third-party modules by what the names of their directives begin with.
const PREFIXES: [(&str, &str); 45] = [
    ("more_", "headers-more"),
    ("set_by_lua", "lua"),
    ("content_by_lua", "lua"),
    ("access_by_lua", "lua"),
    ("rewrite_by_lua", "lua"),
    ("header_filter_by_lua", "lua"),
    ("body_filter_by_lua", "lua"),
    ("log_by_lua", "lua"),
    ("init_by_lua", "lua"),
    ("init_worker_by_lua", "lua"),
    ("balancer_by_lua", "lua"),
    ("ssl_certificate_by_lua", "lua"),
    ("lua_", "lua"),
    ("brotli", "brotli"),
    ("zstd", "zstd"),
    ("push_stream_", "push-stream"),
    ("nchan_", "nchan"),
    ("upload_progress", "upload-progress"),
    ("upload_", "upload"),
    ("track_uploads", "upload-progress"),
    ("report_uploads", "upload-progress"),
    ("rtmp", "rtmp"),
    ("passenger_", "passenger"),
    ("echo", "echo"),
    ("set_escape_uri", "set-misc"),
    ("set_unescape_uri", "set-misc"),
    ("set_encode_", "set-misc"),
    ("set_decode_", "set-misc"),
    ("subs_filter", "substitutions"),
    ("fancyindex", "fancyindex"),
    ("geoip2", "geoip2"),
    ("modsecurity", "ModSecurity"),
    ("pagespeed", "pagespeed"),
    ("vhost_traffic_status", "vts"),
    ("auth_ldap", "auth-ldap"),
    ("auth_pam", "auth-pam"),
    ("dav_ext_", "dav-ext"),
    ("proxy_cache_purge", "cache-purge"),
    ("fastcgi_cache_purge", "cache-purge"),
    ("uwsgi_cache_purge", "cache-purge"),
    ("redis", "redis"),
    ("srcache_", "srcache"),
    ("otel_", "OpenTelemetry"),
    ("js_", "njs"),
    ("fair", "upstream-fair"),
];

/// What is known of a directive that no module has.
pub fn note(name: &str) -> Option<String> {
    if let Some((_, version, instead)) = REMOVED.iter().find(|(removed, ..)| *removed == name) {
        let nginx = format!("nginx {version}");
        return Some(format!("{} removed it: write {instead} instead", nginx.trim_end()));
    }
    if PLUS.contains(&name) {
        return Some("it belongs to NGINX Plus".to_owned());
    }
    let (_, module) = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix))?;
    Some(format!("it belongs to the third-party module {module}"))
}

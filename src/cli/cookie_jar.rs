//! A cookie file in curl's format: one line per cookie, with seven fields separated by tabs.

use super::Failed;
use http::Uri;
use std::path::Path;

/// The cookies of a jar that curl would send to this URL.
pub(super) fn cookies(path: &Path, url: &Uri, now: u64) -> Result<String, Failed> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failed(format!("stayput: cannot read {}: {error}", path.display())))?;
    let host = url.host().unwrap_or_default();
    let fits = |line: &str| -> Option<String> {
        let line = line.strip_prefix("#HttpOnly_").unwrap_or(line);
        let fields: Vec<&str> = line.split('\t').collect();
        let [domain, tail_match, cookie_path, secure, expires, name, value] = fields.as_slice()
        else {
            return None;
        };
        let domain = domain.trim_start_matches('.');
        let below = *tail_match == "TRUE" && host.ends_with(&format!(".{domain}"));
        let expires: u64 = expires.parse().ok()?;
        let is_sent = (host == domain || below)
            && is_under(url.path(), cookie_path)
            && (*secure != "TRUE" || url.scheme_str() == Some("https"))
            && (expires == 0 || expires > now);
        is_sent.then(|| format!("{name}={value}"))
    };
    let lines = text.lines().filter(|line| !line.starts_with("# "));
    Ok(lines.filter_map(fits).collect::<Vec<_>>().join("; "))
}

/// Returns true if `path` is the cookie's path or below it (RFC 6265 section 5.1.4).
fn is_under(path: &str, of_cookie: &str) -> bool {
    path.strip_prefix(of_cookie)
        .is_some_and(|rest| rest.is_empty() || of_cookie.ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_for_its_path_and_the_paths_below() {
        for (path, of_cookie, expected) in [
            ("/", "/", true),
            ("/shop", "/", true),
            ("/shop", "/shop", true),
            ("/shop/cart", "/shop", true),
            ("/shop/cart", "/shop/", true),
            ("/shopping", "/shop", false),
            ("/", "/shop", false),
        ] {
            assert_eq!(is_under(path, of_cookie), expected, "{path} {of_cookie}");
        }
    }
}

//! The client key of a sticky group, with all names and texts prepared.

use crate::config::settings::{CookieSettings, GroupStickiness, Stickiness, StickinessKey};
use crate::policy::affinity::app_cookie::companion_name;
use crate::policy::affinity::cookie::{Attributes, SetCookieTemplate};
use crate::policy::affinity::token::Kind;
use crate::policy::affinity::{GROUP_COOKIE, Lifetime};
use http::HeaderName;

/// The part of a request that identifies a group's client.
#[derive(Debug)]
pub enum Affinity {
    /// A cookie of the balancer.
    Cookie(Cookie),
    /// The route in the application's cookie.
    Route {
        /// Name of the application's cookie.
        cookie: Box<str>,
        /// Text before the route.
        separator: Box<str>,
    },
    /// The value of this header field.
    Header(HeaderName),
}

/// The names and the prepared text of one of the balancer's cookies.
#[derive(Debug)]
pub struct Cookie {
    /// The kind of token in the cookie.
    pub kind: Kind,
    /// Name of the main cookie.
    pub name: Box<str>,
    /// Name of the CORS twin, if any: a companion of an app cookie has none, as with ALB.
    pub twin: Option<Box<str>>,
    /// Lifetime of a pin.
    pub lifetime: Lifetime,
    /// Attributes of the cookie, and the rules for writing it.
    pub settings: CookieSettings,
    /// The Set-Cookie text except for the token and the date.
    pub template: SetCookieTemplate,
    /// The app cookie to which this cookie is the companion.
    pub app_cookie: Option<AppCookie>,
}

/// An application's session cookie.
#[derive(Debug)]
pub struct AppCookie {
    /// Name of the cookie.
    pub name: Box<str>,
    /// True if a request with this cookie but no companion is given a companion.
    pub adopt: bool,
}

impl Affinity {
    pub(super) fn of(stickiness: &Stickiness) -> Self {
        let settings = &stickiness.cookie;
        match &stickiness.key {
            StickinessKey::LbCookie { name, lifetime } => {
                Self::Cookie(Cookie::new(Kind::Lb, name, *lifetime, settings, None))
            }
            StickinessKey::AppCookie { name, companion, lifetime, adopt } => {
                let app_cookie = AppCookie { name: name.as_str().into(), adopt: *adopt };
                let companion = companion_name(companion);
                let app_cookie = Some(app_cookie);
                Self::Cookie(Cookie::new(Kind::App, &companion, *lifetime, settings, app_cookie))
            }
            StickinessKey::Route { cookie, separator } => {
                Self::Route { cookie: cookie.as_str().into(), separator: separator.as_str().into() }
            }
            StickinessKey::Header(name) => Self::Header(name.clone()),
        }
    }
}

impl Cookie {
    pub(super) fn of_groups(sticky: &GroupStickiness) -> Self {
        Self::new(Kind::Group, GROUP_COOKIE, sticky.lifetime, &sticky.cookie, None)
    }

    fn new(
        kind: Kind,
        name: &str,
        lifetime: Lifetime,
        settings: &CookieSettings,
        app_cookie: Option<AppCookie>,
    ) -> Self {
        Self {
            kind,
            name: name.into(),
            twin: (kind != Kind::App).then(|| format!("{name}CORS").into()),
            lifetime,
            template: SetCookieTemplate::new(Attributes {
                name,
                usual_age: lifetime.seconds(),
                path: &settings.path,
                domain: settings.domain.as_deref(),
                secure: settings.is_secure,
                http_only: settings.http_only,
                same_site: settings.same_site,
                partitioned: settings.partitioned,
            }),
            settings: settings.clone(),
            app_cookie,
        }
    }
}

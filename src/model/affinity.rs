//! What tells a group's clients from one another, with every name and text prepared.

use crate::config::settings::{CookieSettings, GroupStickiness, Stickiness, StickinessKey};
use crate::policy::affinity::app_cookie::companion_name;
use crate::policy::affinity::cookie::{Attributes, SetCookieTemplate};
use crate::policy::affinity::token::Kind;
use crate::policy::affinity::{GROUP_COOKIE, Lifetime};
use http::HeaderName;

/// What tells a group's clients from one another.
#[derive(Debug)]
pub enum Affinity {
    /// A cookie of the balancer's.
    Cookie(Cookie),
    /// The route in the application's cookie.
    Route {
        /// The application's cookie.
        cookie: Box<str>,
        /// What stands before the route.
        separator: Box<str>,
    },
    /// A header field's value.
    Header(HeaderName),
}

/// The names and the prepared text of a cookie of the balancer's.
#[derive(Debug)]
pub struct Cookie {
    /// What its tokens are for.
    pub kind: Kind,
    /// The main cookie's name.
    pub name: Box<str>,
    /// Its CORS twin's name, where there is one: an application's companion has none, as with ALB.
    pub twin: Option<Box<str>>,
    /// How long a pin lives.
    pub lifetime: Lifetime,
    /// When and with which attributes it is written.
    pub settings: CookieSettings,
    /// All but the token and the date.
    pub template: SetCookieTemplate,
    /// The application's cookie it accompanies.
    pub app_cookie: Option<AppCookie>,
}

/// An application's cookie.
#[derive(Debug)]
pub struct AppCookie {
    /// Its name.
    pub name: Box<str>,
    /// Whether a request that brings it without a companion is given one.
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

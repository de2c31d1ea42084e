//! `stayput cookie`: inspects, verifies or creates tokens.

use super::terminal::data;
use super::{ConfigArgument, Failed, read_config, words};
use crate::base::clock::Moment;
use crate::config::Loaded;
use crate::control::resolve::{self, Resolver};
use crate::control::state_dir::StateDir;
use crate::model::affinity::Cookie;
use crate::model::snapshot::{Action, Rule, Snapshot};
use crate::model::target_registry::TargetRegistry;
use crate::observe::record::time_text;
use crate::policy::affinity::claim::{self, PinState};
use crate::policy::affinity::keys::Keyring;
use crate::policy::affinity::token::{
    Contents, Defect, GroupKey, Kind, Opened, Pin, Seed, TargetKey,
};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print the contents of a cookie value.
    Inspect(ValueArgument),
    /// Exit with 0 if a cookie value is valid and has an unexpired pin, else with 1.
    Verify(ValueArgument),
    /// Create and print a cookie that pins a client to a target, or to a group of a rule.
    Mint {
        #[command(flatten)]
        config: ConfigArgument,
        /// Target, as GROUP/TARGET, for example app/s1.
        #[arg(long, value_name = "G/T", required_unless_present = "rule")]
        target: Option<String>,
        /// Rule and one of its groups, as RULE/GROUP, for example release/canary.
        #[arg(long, value_name = "R/G", conflicts_with = "target")]
        rule: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct ValueArgument {
    #[command(flatten)]
    config: ConfigArgument,
    /// Value of the cookie.
    value: String,
}

pub(super) fn cookie(command: &Command) -> Result<ExitCode, Failed> {
    match command {
        Command::Inspect(argument) => inspect(argument),
        Command::Verify(argument) => verify(argument),
        Command::Mint { config, target, rule } => {
            let snapshot = build_snapshot(&read_config(&config.config)?)?;
            let targets = target.iter().map(|target| pin_to_target(&snapshot, target));
            let groups = rule.iter().map(|rule| pin_to_group(&snapshot, rule));
            targets.chain(groups).try_for_each(|minted| mint(&snapshot, minted?))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Builds the snapshot of a file, with the keys that `run` would use and the current addresses of
/// its host names. Creates and writes no file.
pub(super) fn build_snapshot(loaded: &Loaded) -> Result<Snapshot, Failed> {
    let mut keys = loaded.config.keys.clone();
    keys.extend(StateDir::find_key(loaded.config.runtime.state_dir.as_deref()));
    if keys.is_empty() {
        return Err(Failed(
            "stayput: no affinity key found; `stayput run` generates one, or set affinity.keys"
                .to_owned(),
        ));
    }
    let keyring = Arc::new(Keyring::new(&keys)?);
    let names = resolve::first(&loaded.config, &Resolver::of_system())?;
    Ok(Snapshot::build(&loaded.config, keyring, &names, &mut TargetRegistry::default())?)
}

/// Opens a token by trying each kind: a value does not contain its kind.
fn open(snapshot: &Snapshot, value: &str) -> Result<(Kind, Opened), Failed> {
    let mut refused = Defect::Malformed;
    for kind in [Kind::Lb, Kind::App, Kind::Group] {
        match snapshot.keyring.open(kind, value.as_bytes()) {
            Ok(opened) => return Ok((kind, opened)),
            Err(defect) => refused = defect,
        }
    }
    Err(Failed(match refused {
        Defect::Malformed => "malformed: not a valid token".to_owned(),
        Defect::Forged => "forged: the seal does not verify with the key it names".to_owned(),
        Defect::UnknownKey => {
            "unknown_key: it names a key that is not in this configuration".to_owned()
        }
    }))
}

fn inspect(argument: &ValueArgument) -> Result<ExitCode, Failed> {
    let snapshot = build_snapshot(&read_config(&argument.config.config)?)?;
    let (kind, opened) = open(&snapshot, &argument.value)?;
    let first =
        if opened.first_key { "" } else { "  (sealed with an older key: will be sealed again)" };
    let what = match kind {
        Kind::Lb => "pins to targets",
        Kind::App => "pins to targets, for an application's cookie",
        Kind::Group => "pins to groups of rules",
    };
    data(&format!("opens: {what}{first}"));
    let now = Moment::now().unix_seconds();
    for pin in opened.contents.pins() {
        data(&describe(&snapshot, kind, pin, now));
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(snapshot: &Snapshot, kind: Kind, pin: &Pin, now: u64) -> String {
    let (holder, held) = match kind {
        Kind::Lb | Kind::App => names_of_target(snapshot, pin),
        Kind::Group => names_of_group(snapshot, pin),
    };
    let issued = time_text(Duration::from_secs(u64::from(pin.issued_at)));
    let issued_at = u64::from(pin.issued_at);
    let age = match issued_at.checked_sub(now) {
        Some(ahead @ 1..) => format!("{ahead}s ahead of this clock"),
        _ => format!("age {}s", now.saturating_sub(issued_at)),
    };
    let state = if is_alive(snapshot, kind, pin, now) { "alive" } else { "expired" };
    let to = if kind == Kind::Group { "rule " } else { "" };
    format!("pin  {to}{holder}/{held}  issued {issued}  {age}  {state}")
}

fn names_of_target<'s>(snapshot: &'s Snapshot, pin: &Pin) -> (&'s str, &'s str) {
    let group = snapshot.groups.iter().find(|group| group.key == pin.group);
    let Some(group) = group else {
        return ("(group not in this file)", "(removed target)");
    };
    let target = group.target_of(pin.target).map(|at| group.targets[at].id.as_str());
    (group.name(), target.unwrap_or("(removed target)"))
}

fn names_of_group<'s>(snapshot: &'s Snapshot, pin: &Pin) -> (&'s str, &'s str) {
    let rule = snapshot.rules.iter().find_map(|rule| match &rule.action {
        Action::Forward(forward) => {
            let is_its = forward.sticky.as_ref().is_some_and(|sticky| sticky.key == pin.group);
            is_its.then_some((rule.settings.name.as_str(), forward))
        }
        Action::Respond(_) | Action::Redirect(_) => None,
    });
    let Some((rule, forward)) = rule else { return ("(rule not in this file)", "(group)") };
    let share = forward.share_of(pin.target).map(|at| forward.shares[at].group);
    (rule, share.map_or("(group not in the rule)", |group| snapshot.groups[group].name()))
}

fn is_alive(snapshot: &Snapshot, kind: Kind, pin: &Pin, now: u64) -> bool {
    snapshot.lifetime_of(kind, pin.group).is_some_and(|lifetime| {
        matches!(claim::state(Some(*pin), lifetime, now), PinState::Held(_))
    })
}

fn verify(argument: &ValueArgument) -> Result<ExitCode, Failed> {
    let snapshot = build_snapshot(&read_config(&argument.config.config)?)?;
    let (kind, opened) = open(&snapshot, &argument.value)?;
    let now = Moment::now().unix_seconds();
    match opened.contents.pins().iter().any(|pin| is_alive(&snapshot, kind, pin, now)) {
        true => {
            data("ok");
            Ok(ExitCode::SUCCESS)
        }
        false => {
            Err(Failed("expired: the token is valid, but all its pins have expired".to_owned()))
        }
    }
}

/// A cookie, and the keys of the pin in it.
type Minted<'s> = (&'s Cookie, GroupKey, TargetKey);

fn pin_to_target<'s>(snapshot: &'s Snapshot, target: &str) -> Result<Minted<'s>, Failed> {
    let found = target.split_once('/').and_then(|(group, id)| {
        let group = &snapshot.groups[snapshot.group_named(group)?];
        Some((group, &group.targets[group.target_named(id)?]))
    });
    let Some((group, target)) = found else {
        return Err(Failed(format!("stayput: no target `{target}`; write GROUP/TARGET")));
    };
    let Some(cookie) = group.cookie() else {
        let (name, stickiness_key) = (group.name(), words::stickiness_key(group));
        let title =
            format!("stayput: group `{name}` sets no cookie; its stickiness is {stickiness_key}");
        return Err(Failed(title));
    };
    Ok((cookie, group.key, target.key))
}

fn pin_to_group<'s>(snapshot: &'s Snapshot, names: &str) -> Result<Minted<'s>, Failed> {
    let found = names.split_once('/').and_then(|(rule, group)| {
        let named = |at: &&Rule| at.settings.name.as_str() == rule;
        let Action::Forward(forward) = &snapshot.rules.iter().find(named)?.action else {
            return None;
        };
        let group = snapshot.group_named(group)?;
        Some((forward, forward.shares.iter().find(|share| share.group == group)?))
    });
    let Some((forward, share)) = found else {
        let title = format!("stayput: no rule and group `{names}`; write RULE/GROUP");
        return Err(Failed(title));
    };
    let Some(sticky) = &forward.sticky else {
        let title = format!("stayput: the rule of `{names}` sets no group cookie");
        return Err(Failed(title + ": it has no group_stickiness"));
    };
    Ok((&sticky.cookie, sticky.key, share.key))
}

fn mint(snapshot: &Snapshot, (cookie, group, target): Minted<'_>) -> Result<(), Failed> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)?;
    let issued_at = u32::try_from(Moment::now().unix_seconds()).unwrap_or(u32::MAX);
    let pin = Pin { group, target, issued_at };
    let contents = Contents::new(Seed(u64::from_be_bytes(seed)), pin);
    let sealed = snapshot.keyring.seal(cookie.kind, &contents);
    data(&format!("{}={}", cookie.name, sealed.as_str()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::snapshot::Resolutions;
    use crate::policy::affinity::keys::Key;

    #[test]
    fn the_command_accepts_a_pin_for_as_long_as_the_balancer_does() {
        let text = "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
                    targets = [\"127.0.0.1:1\"]\nstickiness = { lb_cookie = { duration = \"1h\" } }\n";
        let config = config::parse(text, "test.toml", "/".as_ref()).unwrap().config;
        let keyring = Arc::new(Keyring::new(&[Key::generate([7; 32])]).unwrap());
        let names = Resolutions::new();
        let snapshot =
            Snapshot::build(&config, keyring, &names, &mut TargetRegistry::default()).unwrap();
        let group = &snapshot.groups[0];
        let pin = Pin { group: group.key, target: group.targets[0].key, issued_at: 1_800_000_000 };
        let alive_at = |offset: i64| {
            is_alive(
                &snapshot,
                Kind::Lb,
                &pin,
                u64::from(pin.issued_at).saturating_add_signed(offset),
            )
        };
        // A time ahead of this clock counts as now, as in the balancer.
        let alive = [-90_000, -61, 0, 3_599, 3_600].map(alive_at);
        assert_eq!(alive, [true, true, true, true, false]);
    }
}

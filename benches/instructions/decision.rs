//! Opening a token, deciding, and sealing the next one: this program under callgrind, without a
//! socket.

use stayput::config;
use stayput::testing::base::random::Random;
use stayput::testing::decide::cookie_update::{Shown, cookie_update};
use stayput::testing::decide::{Outcome, Request, decide};
use stayput::testing::http1::fields::Fields;
use stayput::testing::model::live::{Availability, Drain, Health};
use stayput::testing::model::snapshot::{Resolutions, Snapshot};
use stayput::testing::model::target_registry::TargetRegistry;
use stayput::testing::policy::affinity::keys::{Key, Keyring};
use stayput::testing::policy::affinity::token::{Contents, Kind, Pin, Seed};
use stayput::testing::policy::routing::conditions::Subject;
use stayput::testing::proxy::live_view::LiveView;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use crate::callgrind::{Counted, command, total};

const NOW: u32 = 1_800_000_000;
/// The argument with which this program, under callgrind, makes the given number of decisions.
pub(crate) const DECISIONS: &str = "--decisions";

/// Opening the token, deciding, and sealing the next one. The difference of two runs, so that start
/// and end do not count.
pub(crate) fn decision() -> Counted {
    let counted = |count: u32| -> Counted {
        let file = tempfile::NamedTempFile::new()?;
        let mut command = command(file.path());
        command.arg(std::env::current_exe()?).arg(DECISIONS).arg(count.to_string());
        if !command.status()?.success() {
            return Err("callgrind could not run this program".into());
        }
        total(file.path())
    };
    const COUNT: u32 = 2_000;
    Ok((counted(2 * COUNT)? - counted(COUNT)?) / f64::from(COUNT))
}

pub(crate) fn decisions(count: u32) {
    let Some((snapshot, headers)) = world() else { return };
    let request = Request {
        listener: 0,
        subject: Subject {
            host: "shop.example",
            path: "/cart",
            query: "",
            method: "GET",
            headers: &headers,
            address: std::net::IpAddr::from([192, 0, 2, 1]),
        },
    };
    let mut draw = Random::from_seed(1);
    for _ in 0..count {
        let now = u64::from(NOW) + 5;
        let decision =
            decide(black_box(&request), &snapshot, &LiveView::FOR_ANYONE, now, &mut draw);
        let Outcome::Forward(placement) = decision.outcome else { return };
        let served_by = placement.target.unwrap_or(0);
        if let Some(update) =
            cookie_update(&placement, served_by, &snapshot, now, Seed(1), Shown::default())
        {
            black_box(snapshot.keyring.seal(Kind::Lb, &update.contents));
        }
    }
}

fn world() -> Option<(Snapshot, Fields)> {
    let text = "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
                targets = [\"10.0.0.1:80\", \"10.0.0.2:80\", \"10.0.0.3:80\"]\n";
    let loaded = config::parse(text, "bench", Path::new("")).ok()?;
    let keyring = Arc::new(Keyring::new(&[Key::generate([7; 32])]).ok()?);
    let (names, mut registry) = (Resolutions::new(), TargetRegistry::default());
    let snapshot = Snapshot::build(&loaded.config, keyring, &names, &mut registry).ok()?;
    let group = &snapshot.groups[0];
    for target in &group.targets {
        let healthy = Availability { health: Health::Healthy, drain: Drain::No, recovering: false };
        target.state.set_availability(healthy);
    }
    let pin = Pin { group: group.key, target: group.targets[1].key, issued_at: NOW };
    let sealed = snapshot.keyring.seal(Kind::Lb, &Contents::new(Seed(42), pin));
    let line = format!("theme=dark; AWSALB={}", sealed.as_str());
    let headers = [("cookie", line)].into_iter().collect();
    Some((snapshot, headers))
}

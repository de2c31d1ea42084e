//! Cost of a decision: a hit, a new client and a moved client, among ten targets and a thousand.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use stayput::config;
use stayput::testing::base::random::Random;
use stayput::testing::decide::{Request, decide};
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

const NOW: u32 = 1_800_000_000;

fn world(targets: usize) -> Option<Snapshot> {
    let targets: Vec<String> =
        (0..targets).map(|at| format!("\"10.0.{}.{}:80\"", at / 250, at % 250 + 1)).collect();
    let text = format!(
        "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\ntargets = [{}]\n",
        targets.join(", ")
    );
    let loaded = config::parse(&text, "bench", Path::new("")).ok()?;
    let keyring = Arc::new(Keyring::new(&[Key::generate([7; 32])]).ok()?);
    let (names, mut registry) = (Resolutions::new(), TargetRegistry::default());
    let snapshot = Snapshot::build(&loaded.config, keyring, &names, &mut registry).ok()?;
    let healthy = Availability { health: Health::Healthy, drain: Drain::No, recovering: false };
    for target in &snapshot.groups[0].targets {
        target.state.set_availability(healthy);
    }
    Some(snapshot)
}

fn with_pin(snapshot: &Snapshot, target: usize) -> Fields {
    let group = &snapshot.groups[0];
    let pin = Pin { group: group.key, target: group.targets[target].key, issued_at: NOW };
    let sealed = snapshot.keyring.seal(Kind::Lb, &Contents::new(Seed(42), pin));
    let line = format!("session=0123456789abcdef; AWSALB={}; theme=dark", sealed.as_str());
    [("cookie", line)].into_iter().collect()
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for targets in [10, 1_000] {
        let Some(snapshot) = world(targets) else { return };
        let mut run = |name: &str, headers: &Fields| {
            let mut draw = Random::from_seed(1);
            group.bench_function(BenchmarkId::new(name, targets), |b| {
                b.iter(|| {
                    let request = Request {
                        listener: 0,
                        subject: Subject {
                            host: "shop.example",
                            path: "/cart",
                            query: "",
                            method: "GET",
                            headers,
                            address: std::net::IpAddr::from([192, 0, 2, 1]),
                        },
                    };
                    black_box(decide(
                        black_box(&request),
                        &snapshot,
                        &LiveView::FOR_ANYONE,
                        u64::from(NOW),
                        &mut draw,
                    ))
                    .rule
                });
            });
        };
        run("hit", &with_pin(&snapshot, 3));
        run("new client", &Fields::default());
        let down = Availability { health: Health::Unhealthy, drain: Drain::No, recovering: false };
        snapshot.groups[0].targets[4].state.set_availability(down);
        run("moved", &with_pin(&snapshot, 4));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);

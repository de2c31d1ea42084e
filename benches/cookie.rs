//! Cost of searching the `Cookie` lines of one request: an ordinary one, and 16 KiB of each kind
//! that an attacker might send to make the search long. The bound for those is 50 microseconds.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use stayput::testing::base::secret::Secret;
use stayput::testing::policy::affinity::SameSite;
use stayput::testing::policy::affinity::claim::{self, CookieNames};
use stayput::testing::policy::affinity::cookie::{
    self, Attributes, Ending, SetCookieTemplate, values,
};
use stayput::testing::policy::affinity::keys::{Key, Keyring};
use stayput::testing::policy::affinity::token::{GroupKey, Kind};

const FULL: usize = 16 * 1024;

fn scan(criterion: &mut Criterion) {
    let token = "A".repeat(56);
    let ordinary = format!(
        "_ga=GA1.2.1215847493.1767225600; theme=dark; AWSALB={token}; AWSALBCORS={token}; \
         JSESSIONID=0123456789ABCDEF0123456789ABCDEF"
    );
    let mut group = criterion.benchmark_group("cookie");
    let lines = [
        ("scan, ordinary", ordinary.clone()),
        ("scan 16 KiB, one value", format!("a={}", "x".repeat(FULL - 2))),
        ("scan 16 KiB, cookies of 50", format!("name={}; ", "x".repeat(43)).repeat(FULL / 50)),
        ("scan 16 KiB, cookies of 11", "aaa=xxxxx; ".repeat(FULL / 11)),
        ("scan 16 KiB, cookies of 3", "a=;".repeat(FULL / 3)),
        ("scan 16 KiB, semicolons", ";".repeat(FULL)),
        ("scan 16 KiB, spaces", " ".repeat(FULL)),
        ("scan 16 KiB, our name", "AWSALB;".repeat(FULL / 7)),
        ("scan 16 KiB, our cookie", "AWSALB= ; ".repeat(FULL / 10)),
    ];
    for (name, line) in &lines {
        group.bench_function(*name, |b| {
            b.iter(|| values([black_box(line.as_bytes())].into_iter(), "AWSALB").count());
        });
    }
    claims(&mut group, &lines);
    group.bench_function("take out, ordinary", |b| {
        let names = ["AWSALB", "AWSALBCORS"];
        b.iter(|| cookie::without(black_box(ordinary.as_bytes()), &names));
    });
    let template = SetCookieTemplate::new(Attributes {
        name: "AWSALB",
        usual_age: 86_400,
        path: "/",
        domain: None,
        secure: true,
        http_only: true,
        same_site: SameSite::Unset,
        partitioned: false,
    });
    group.bench_function("write", |b| {
        let ending = Ending { date: "Fri, 02 Jan 2026 00:00:00 GMT", max_age: 86_400 };
        b.iter(|| {
            let mut line = Vec::new();
            template.write(&mut line, black_box(token.as_bytes()), Some(black_box(ending)));
            line
        });
    });
    group.finish();
}

/// The whole search of the decision: both names in one pass, and each token found is tried.
fn claims(group: &mut BenchmarkGroup<'_, WallTime>, lines: &[(&str, String)]) {
    let key = Key { id: 1, material: Secret::new(vec![1; 32]) };
    let Ok(ring) = Keyring::new([&key]) else { return };
    let names = CookieNames { main: "AWSALB", twin: Some("AWSALBCORS") };
    for (name, line) in lines {
        group.bench_function(name.replace("scan", "claim"), |b| {
            b.iter(|| {
                let lines = [black_box(line.as_bytes())].into_iter();
                claim::find(lines, names, &ring, Kind::Lb, GroupKey(1), 86_400, 1_767_225_600)
            });
        });
    }
}

criterion_group!(benches, scan);
criterion_main!(benches);

//! Cost of the token of one sticky exchange: open the old, seal the new. The budget is one
//! microsecond for both with the decision between them.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use stayput::testing::base::secret::Secret;
use stayput::testing::policy::affinity::keys::{Key, Keyring};
use stayput::testing::policy::affinity::token::{Contents, GroupKey, Kind, Pin, Seed, TargetKey};

fn token(criterion: &mut Criterion) {
    let key = |id| Key { id, material: Secret::new(vec![id; 32]) };
    // With two keys, as in the middle of a rotation.
    let Ok(ring) = Keyring::new(&[key(2), key(1)]) else { return };
    let target = TargetKey::of("app", "127.0.0.1:3001");
    let pin = Pin { group: GroupKey::of("app"), target, issued_at: 1_767_225_600 };
    let contents = Contents::new(Seed(42), pin);
    let text = ring.seal(Kind::Lb, &contents);
    let text = text.as_str().as_bytes();
    let mut forged = text.to_vec();
    forged[20] ^= 1;

    let mut group = criterion.benchmark_group("token");
    group.bench_function("seal", |b| b.iter(|| ring.seal(Kind::Lb, black_box(&contents))));
    group.bench_function("open", |b| b.iter(|| ring.open(Kind::Lb, black_box(text))));
    group.bench_function("open, forged", |b| b.iter(|| ring.open(Kind::Lb, black_box(&forged))));
    group.bench_function("open and seal", |b| {
        b.iter(|| {
            let opened = ring.open(Kind::Lb, black_box(text));
            opened.map(|opened| ring.seal(Kind::Lb, &opened.contents))
        });
    });
    group.finish();
}

criterion_group!(benches, token);
criterion_main!(benches);

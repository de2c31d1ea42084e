use criterion::{Criterion, criterion_group, criterion_main};
use hmac::{KeyInit, Mac};
//! t
use std::hint::black_box;
fn t(c: &mut Criterion) {
    let mut s = [1u32; 8];
    let b = [[3u8; 64]];
    c.bench_function("compress1", |x| {
        x.iter(|| sha2::block_api::compress256(black_box(&mut s), black_box(&b)))
    });
    let k = hmac::Hmac::<sha2::Sha256>::new_from_slice(&[1; 32]).unwrap();
    c.bench_function("hmac27", |x| {
        x.iter(|| k.clone().chain_update(black_box([1u8; 27])).finalize().into_bytes())
    });
    let t = data_encoding::BASE64URL_NOPAD.encode(&[7u8; 42]);
    let mut o = [0u8; 42];
    c.bench_function("decode", |x| {
        x.iter(|| data_encoding::BASE64URL_NOPAD.decode_mut(black_box(t.as_bytes()), &mut o))
    });
    let mut e = [0u8; 56];
    c.bench_function("encode", |x| {
        x.iter(|| data_encoding::BASE64URL_NOPAD.encode_mut(black_box(&o), &mut e))
    });
}
criterion_group!(benches, t);
criterion_main!(benches);

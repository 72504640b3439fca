//! What goes over the wire, as a hash: a change of any message of a seeded session shows here.
//!
//! If a change is meant, raise the version in the hello (`extension/setup.rs`) and take the new
//! hashes from this test's output.

#[path = "../fuzz/cases.rs"]
#[allow(dead_code)]
mod cases;

use copriv_ot::OtFlavour;

/// Flavour, bytes that the client sends, and the first digits of their BLAKE3 hash.
const TRACES: [(&str, usize, &str); 7] = [
    ("iknp", 11395, "cdb55a4065ab1edf"),
    ("softspoken2", 11971, "2822000f26b6432b"),
    ("softspoken4", 12259, "7fa358ade05ac0ca"),
    ("softspoken8", 12403, "525ba07316f33bff"),
    ("ferret", 227168, "39056481b1e7b003"),
    ("ferret-small", 227168, "4df12e68d2b49de1"),
    ("ferret-large", 227168, "71a5c1ec48bd4a90"),
];

#[test]
fn seeded_sessions_send_what_they_always_sent() {
    let traces = OtFlavour::ALL.iter().enumerate().map(|(f, flavour)| {
        let bytes = cases::transcript(f);
        let hash = blake3::hash(bytes).to_hex()[..16].to_owned();
        (flavour.name(), bytes.len(), hash)
    });
    let expected = TRACES.map(|(name, len, hash)| (name, len, hash.to_owned()));
    assert_eq!(traces.collect::<Vec<_>>(), expected);
}

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
    ("iknp", 11395, "010a5460bd2347d5"),
    ("softspoken2", 11971, "c3acc050b4ec86f4"),
    ("softspoken4", 12259, "d52b308926038b52"),
    ("softspoken8", 12403, "87ec51f276764c26"),
    ("ferret", 227168, "a922dc28346edad4"),
    ("ferret-small", 227168, "a176447752d63192"),
    ("ferret-large", 227168, "ac64471017dcab96"),
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

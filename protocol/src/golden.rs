//! Whether encoded values still have the form that the golden files hold fast.

/// Values longer than this stand in a golden file by their hash.
const IN_FULL_MAX: usize = 160;

/// Compares encoded values with a golden file: a line for each, its name and its bytes in hexadecimal
/// digits, or their BLAKE3 hash where they are long.
#[track_caller]
pub(crate) fn holds(file: &str, golden: &str, values: &[(&str, Vec<u8>)]) {
    let line = |(name, bytes): &(&str, Vec<u8>)| {
        let form = match bytes.len() {
            0..=IN_FULL_MAX => data_encoding::HEXLOWER.encode(bytes),
            long => format!("{long} bytes, blake3 {}", blake3::hash(bytes)),
        };
        format!("{name} {form}\n")
    };
    let found: String = values.iter().map(line).collect();
    assert!(
        found == golden,
        "the format has changed. Nodes of two versions talk to each other, and read each other's disks: \
         add variants at the end, or raise the version byte. If that is done, protocol/golden/{file} \
         becomes:\n{found}"
    );
}

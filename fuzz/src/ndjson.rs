//! Lines: what [`ndjson::next`] finds is what a split at LF finds, cut anywhere.

use corelane::wire::ndjson;

use super::cut;

/// Reads `data` as lines.
pub fn target(data: &[u8]) {
    let mut want: Vec<Vec<u8>> = data.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    if want.last().is_some_and(|line| !line.ends_with(b"\n") && line.trim_ascii().is_empty()) {
        want.pop();
    }
    for parts in cut::all(data) {
        let (mut kept, mut lines) = (Vec::new(), Vec::new());
        for part in &parts {
            kept.extend_from_slice(part);
            while let Some(length) = ndjson::next(&kept).map(<[u8]>::len) {
                lines.push(kept.drain(..length).collect::<Vec<u8>>());
            }
        }
        lines.extend(ndjson::last(&kept).map(<[u8]>::to_vec));
        assert_eq!(lines, want, "cut after {}", parts[0].len());
    }
}

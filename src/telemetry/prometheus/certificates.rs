//! Families of the certificates that clients are shown.

use super::Page;

impl Page<'_> {
    /// Until when each is good; a reload reads them again.
    pub(super) fn certificates(&mut self) {
        let Some(tls) = &self.world.tls else { return };
        let name = "corelane_certificate_expiry_seconds";
        self.family(name, "gauge", "Unix time at which a certificate of server.tls expires, by its file.");
        for expiry in tls.expiries() {
            self.line(name, &[("name", &expiry.file)], expiry.not_after_s);
        }
    }
}

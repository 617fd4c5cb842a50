//! Tokens of standards rather than of vendors.

use super::{Check, Rule, token};

pub(super) const RULES: &[Rule] = &[
    token(
        "jwt",
        &["eyJ"],
        "eyJ[0-9A-Za-z_-]{8,}={0,2}\\.[0-9A-Za-z_-]{8,}={0,2}(?:\\.[0-9A-Za-z_-]{0,}={0,2})?",
    )
    .check(Check::Jwt)
    .entropy(3.0),
    token("jwt-base64", &["ZXlK"], "ZXlK[0-9A-Za-z+/_-]{60,}={0,2}").check(Check::Jwt).entropy(3.0),
    token("aws-presigned-url", &["X-Amz-Signature="], "X-Amz-Signature=[0-9A-Fa-f]{64}"),
    token("google-signed-url", &["X-Goog-Signature="], "X-Goog-Signature=[0-9A-Fa-f]{128,}"),
    token("cloudfront-signature", &["&Signature="], "&Signature=[0-9A-Za-z~_-]{100,}").inside(),
];

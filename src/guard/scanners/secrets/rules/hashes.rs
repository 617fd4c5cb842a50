//! Password hashes: not the password, but good enough to guess it.

use super::{Rule, token};

pub(super) const RULES: &[Rule] = &[
    token("bcrypt-hash", &["$2a$", "$2b$", "$2y$", "$2x$"], "\\$2[abxy]\\$[0-9]{2}\\$[0-9A-Za-z./]{53}")
        .inside(),
    token(
        "sha512-crypt-hash",
        &["$6$"],
        "\\$6\\$(?:rounds=[0-9]{1,9}\\$)?[0-9A-Za-z./]{1,16}\\$[0-9A-Za-z./]{86}",
    )
    .inside(),
    token(
        "sha256-crypt-hash",
        &["$5$"],
        "\\$5\\$(?:rounds=[0-9]{1,9}\\$)?[0-9A-Za-z./]{1,16}\\$[0-9A-Za-z./]{43}",
    )
    .inside(),
    token("md5-crypt-hash", &["$1$", "$apr1$"], "\\$(?:1|apr1)\\$[0-9A-Za-z./]{1,8}\\$[0-9A-Za-z./]{22}")
        .inside(),
    token(
        "yescrypt-hash",
        &["$y$", "$7$", "$gy$"],
        "\\$(?:y|7|gy)\\$[0-9A-Za-z./]{1,12}\\$[0-9A-Za-z./]{1,}\\$[0-9A-Za-z./]{43}",
    )
    .inside(),
    token(
        "argon2-hash",
        &["$argon2"],
        "\\$argon2(?:id|i|d)\\$v=[0-9]{1,3}\\$m=[0-9,=tp]{5,40}\\$[0-9A-Za-z+/]{8\
            ,}\\$[0-9A-Za-z+/]{16,}",
    )
    .inside(),
    token(
        "scrypt-hash",
        &["$scrypt$"],
        "\\$scrypt\\$[0-9A-Za-z=,]{5,40}\\$[0-9A-Za-z+/]{8,}\\$[0-9A-Za-z+/]{16,}",
    )
    .inside(),
    token(
        "pbkdf2-hash",
        &["pbkdf2_sha", "$pbkdf2", "pbkdf2:sha"],
        "(?:pbkdf2_sha[0-9]{1,3}\\$[0-9]{3,8}\\$[0-9A-Za-z]{4,64}\\$[0-9A-Za-z+/]\
            {20,}={0,2}|\\$pbkdf2[0-9A-Za-z-]{0,12}\\$[0-9]{3,8}\\$[0-9A-Za-z./]{8,}\
            \\$[0-9A-Za-z./]{20,}|pbkdf2:sha[0-9]{1,3}:[0-9]{3,8}\\$[0-9A-Za-z]{4,64\
            }\\$[0-9a-f]{40,})",
    )
    .inside(),
    token("phpass-hash", &["$P$", "$H$"], "\\$[PH]\\$[0-9A-Za-z./]{31}").inside(),
    token(
        "ldap-hash",
        &["{SSHA", "{SHA}", "{SMD5}"],
        "\\{(?:SSHA(?:256|384|512)?|SHA|SMD5)\\}[0-9A-Za-z+/]{20,}={0,2}",
    )
    .inside(),
    token("mysql-native-hash", &["BY PASSWORD '*"], "BY PASSWORD '\\*[0-9A-F]{40}").inside(),
];

//! Office, design, planning, customers, identity.

use super::{Check, Rule, UUID, token, value};

pub(super) const RULES: &[Rule] = &[
    token("linear-key", &["lin_api_"], "lin_api_[0-9A-Za-z]{40}").entropy(2.8),
    token("linear-oauth-token", &["lin_oauth_"], "lin_oauth_[0-9a-f]{64}"),
    value("linear-client-secret", &["linear"], "[0-9a-f]{32}"),
    token("notion-token", &["ntn_"], "ntn_[0-9]{11}[0-9A-Za-z]{35}").entropy(3.0),
    token("notion-secret", &["secret_"], "secret_[0-9A-Za-z]{43}").entropy(3.5),
    value("asana-client-id", &["asana"], "[0-9]{16}").entropy(2.0),
    value("asana-client-secret", &["asana"], "[0-9a-z]{32}"),
    token("figma-token", &["figd_", "figu_", "figo_"], "fig[duo]_[0-9A-Za-z_-]{38,46}").entropy(3.0),
    token("dropbox-token", &["sl."], "sl\\.(?:u\\.)?[0-9A-Za-z_=-]{130,}").entropy(3.3),
    value("dropbox-key", &["dropbox"], "[0-9a-z]{15}").entropy(2.8),
    value("dropbox-long-lived-token", &["dropbox"], "[0-9A-Za-z]{11}AAAAAAAAAA[0-9A-Za-z_=-]{43}")
        .entropy(2.5),
    value("box-secret", &["box_client", "box_secret", "boxsdk"], "[0-9A-Za-z]{32}").check(Check::Mixed),
    token("clickup-token", &["pk_"], "pk_[0-9]{6,9}_[0-9A-Z]{32}"),
    value("trello-key", &["trello"], "[0-9a-f]{32}"),
    value("trello-token", &["trello"], "(?:ATTA)?[0-9a-f]{64,76}"),
    token("trello-atta-token", &["ATTA"], "ATTA[0-9a-f]{64,72}[0-9A-F]{0,8}"),
    value("monday-token", &["monday"], "eyJ[0-9A-Za-z_-]{20,}\\.[0-9A-Za-z_-]{20,}\\.[0-9A-Za-z_-]{20,}"),
    token("typeform-token", &["tfp_"], "tfp_[0-9A-Za-z_=.-]{40,60}").entropy(3.0),
    token("readme-key", &["rdme_"], "rdme_[0-9a-z]{70}").entropy(3.0),
    token("frameio-token", &["fio-u-"], "fio-u-[0-9A-Za-z_=-]{64}"),
    token("intra42-secret", &["s-s4t2"], "s-s4t2(?:ud|af)-[0-9a-f]{64}"),
    value("hubspot-key", &["hubspot", "hapikey"], UUID),
    token(
        "hubspot-token",
        &["pat-na", "pat-eu"],
        "pat-(?:na|eu)[0-9]-[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}",
    ),
    token("salesforce-session", &["00D"], "00D[0-9A-Za-z]{12,15}![0-9A-Za-z_.]{80,130}"),
    token("salesforce-consumer-key", &["3MVG9"], "3MVG9[0-9A-Za-z._]{60,90}").entropy(3.5),
    value("pipedrive-token", &["pipedrive"], "[0-9a-f]{40}"),
    value("calendly-token", &["calendly"], "eyJ[0-9A-Za-z_-]{20,}\\.[0-9A-Za-z_-]{20,}\\.[0-9A-Za-z_-]{20,}"),
    token("beamer-token", &["b_"], "b_[0-9A-Za-z=_-]{44}").entropy(3.8).check(Check::Mixed),
    value("okta-key", &["okta", "SSWS"], "00[0-9A-Za-z_=-]{40}").entropy(3.5),
    value("auth0-secret", &["auth0"], "[0-9A-Za-z_-]{64}").entropy(3.8),
    value("auth0-token", &["auth0"], "[0-9A-Za-z_-]{32}").check(Check::Mixed),
    token(
        "authress-key",
        &["sc_", "ext_", "scauth_", "authress_"],
        "(?:sc|ext|scauth|authress)_(?i:[a-z0-9]{5,30}\\.[a-z0-9]{4,6}\\.acc[_-][\
            a-z0-9-]{10,32}\\.[a-z0-9+/_=-]{30,})",
    ),
    token("settlemint-token", &["sm_aat_", "sm_pat_", "sm_sat_"], "sm_[aps]at_[0-9A-Za-z]{16}").entropy(2.8),
    token("workos-key", &["sk_"], "sk_(?:live_|test_)?a2V5X[0-9A-Za-z]{30,70}={0,2}"),
    token("stytch-secret", &["secret-live-", "secret-test-"], "secret-(?:live|test)-[0-9A-Za-z_=-]{36,48}"),
    token("keycloak-cookie", &["KEYCLOAK_IDENTITY="], "KEYCLOAK_IDENTITY=[0-9A-Za-z_.-]{60,}"),
    token("knowbe4-token", &["kb4_"], "kb4_[0-9A-Za-z]{40,80}"),
    token("atlassian-connect-secret", &["ATOA"], "ATOA[0-9A-Za-z_=-]{100,}"),
    value("docusign-secret", &["docusign"], UUID),
    value("zoom-secret", &["zoom"], "[0-9A-Za-z]{32,36}").check(Check::Mixed),
    value("webex-token", &["webex"], "[0-9A-Za-z_-]{64}_[0-9A-Za-z]{4}_[0-9a-f-]{36}"),
    value("miro-token", &["miro"], "[0-9A-Za-z_-]{27}").check(Check::Mixed),
    value("smartsheet-token", &["smartsheet"], "[0-9A-Za-z]{26}|[0-9A-Za-z]{37}").check(Check::Mixed),
    value(
        "wakatime-key",
        &["wakatime", "waka_"],
        "(?:waka_)?[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
    ),
    value(
        "wordpress-salt",
        &["AUTH_KEY", "AUTH_SALT", "LOGGED_IN_KEY", "LOGGED_IN_SALT", "NONCE_KEY", "NONCE_SALT"],
        "[ -~]{60,70}",
    )
    .entropy(4.3),
    value("django-secret-key", &["SECRET_KEY"], "(?:django-insecure-)?[0-9a-z!@#$%^&*()=_+-]{45,70}")
        .entropy(3.8),
    value(
        "rails-secret-key-base",
        &["secret_key_base", "RAILS_MASTER_KEY", "secret_token"],
        "[0-9a-f]{32}|[0-9a-f]{64}|[0-9a-f]{128}",
    ),
    value("laravel-app-key", &["APP_KEY"], "base64:[0-9A-Za-z+/]{42,44}={0,2}"),
];

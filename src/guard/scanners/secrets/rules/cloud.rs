//! Clouds, hosting, networks, infrastructure.

use super::{Anchor, Check, Rule, UUID, token, value};

pub(super) const RULES: &[Rule] = &[
    token(
        "aws-access-key-id",
        &["AKIA", "ASIA", "ABIA", "ACCA", "A3T"],
        "A(?:KIA|SIA|BIA|CCA|3T[A-Z0-9])[A-Z0-9]{16}",
    )
    .entropy(2.2),
    token("aws-bedrock-session-key", &["bedrock-api-key-"], "bedrock-api-key-[0-9A-Za-z+/=]{20,}"),
    token("aws-appsync-key", &["da2-"], "da2-[a-z0-9]{26}").entropy(3.0),
    token("aws-mws-token", &["amzn.mws."], "amzn\\.mws\\.[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"),
    token("amazon-oauth-secret", &["amzn1.oa2-cs."], "amzn1\\.oa2-cs\\.v1\\.[0-9a-f]{64}"),
    token("aws-session-token", &["FwoGZXIv", "IQoJb3Jp"], "(?:FwoGZXIv|IQoJb3Jp)[0-9A-Za-z+/=]{100,}"),
    value(
        "aws-secret-access-key",
        &["aws", "amazon", "secretaccesskey", "secret_access_key", "secret access key"],
        "[0-9A-Za-z+/]{40}",
    )
    .entropy(3.8)
    .check(Check::Mixed),
    token("azure-ad-client-secret", &["Q~"], "[0-9A-Za-z_~.]{3}[0-9]Q~[0-9A-Za-z_~.-]{31,34}")
        .anchor(Anchor::Before(4))
        .entropy(3.0),
    token("azure-storage-key", &["AccountKey="], "AccountKey=[0-9A-Za-z+/]{86}==").entropy(3.0).inside(),
    token("azure-shared-access-key", &["SharedAccessKey="], "SharedAccessKey=[0-9A-Za-z+/]{40,88}={0,2}")
        .entropy(3.0)
        .inside(),
    token("azure-sas-signature", &["sig="], "sig=[0-9A-Za-z%]{43,80}(?:%3[Dd]|=)").entropy(3.5),
    token(
        "azure-key-signature",
        &["+ASt", "AzCa", "ACDb", "AzSe", "+ARm", "+AEh", "AzFu", "+ABa", "+AMC", "AIoT"],
        "[0-9A-Za-z+/]{76}(?:\\+ASt|\\+ABa|\\+AMC)[0-9A-Za-z+/]{5}[AQgw]==|[0-9A-\
            Za-z+/]{76}AzFu[0-9A-Za-z_-]{5}[AQgw]==",
    )
    .anchor(Anchor::Before(76))
    .entropy(3.5),
    token("azure-devops-token", &["AZDO"], "[0-9A-Za-z]{76}AZDO[0-9A-Za-z]{4}")
        .anchor(Anchor::Before(76))
        .entropy(3.5),
    value(
        "azure-subscription-key",
        &["subscription-key", "subscription_key", "subscriptionkey", "azure_openai", "cognitive"],
        "[0-9a-f]{32}",
    ),
    value(
        "azure-devops-pat",
        &["azure_devops", "azuredevops", "ado_pat", "ado_token", "vsts", "AZURE_DEVOPS_EXT_PAT"],
        "[a-z2-7]{52}",
    )
    .entropy(3.5),
    value(
        "azure-storage-account-key",
        &["azure", "accountkey", "account_key", "storage_key", "storagekey"],
        "[0-9A-Za-z+/]{86}==",
    )
    .entropy(3.5),
    token("google-api-key", &["AIza"], "AIza[0-9A-Za-z_-]{35}").entropy(3.0),
    token("google-oauth-client-secret", &["GOCSPX-"], "GOCSPX-[0-9A-Za-z_-]{28}").entropy(3.0),
    token("google-oauth-access-token", &["ya29."], "ya29\\.[0-9A-Za-z_-]{30,}").entropy(3.0),
    token("google-oauth-refresh-token", &["1//0"], "1//0[0-9A-Za-z_-]{40,}").entropy(3.5),
    value(
        "google-oauth-code",
        &["google", "gcp", "oauth", "auth_code", "authorization_code"],
        "4/[01][0-9A-Za-z_-]{40,90}",
    )
    .entropy(3.5),
    token("google-hmac-key", &["GOOG1"], "GOOG1[EA][0-9A-Z]{19,60}").entropy(3.0),
    token("firebase-messaging-key", &[":APA91b"], "AAAA[0-9A-Za-z_-]{7}:APA91b[0-9A-Za-z_-]{130,}")
        .anchor(Anchor::Before(11)),
    token("google-recaptcha-key", &["6L"], "6L[0-9A-Za-z_-]{38}").entropy(3.9).check(Check::Mixed),
    token("alibaba-access-key-id", &["LTAI"], "LTAI[0-9A-Za-z]{12,24}").entropy(2.6),
    value("alibaba-secret-key", &["alibaba", "aliyun", "alicloud"], "[0-9A-Za-z]{30}").entropy(3.0),
    token("tencent-secret-id", &["AKID"], "AKID[0-9A-Za-z]{32}").entropy(3.0),
    token("volcengine-key", &["AKLT"], "AKLT[0-9A-Za-z_-]{40,50}").entropy(3.0),
    token("digitalocean-token", &["dop_v1_", "doo_v1_", "dor_v1_"], "do[opr]_v1_[0-9a-f]{64}").entropy(3.0),
    value("digitalocean-spaces-key", &["digitalocean", "do_spaces", "spaces_secret"], "[0-9A-Za-z+/]{43}")
        .entropy(3.5),
    token("heroku-api-key", &["HRKU-"], "HRKU-[0-9A-Za-z_-]{36,64}").entropy(3.0),
    value("heroku-api-uuid", &["heroku"], UUID),
    token("netlify-token", &["nfp_"], "nfp_[0-9A-Za-z]{36,40}").entropy(3.0),
    value("netlify-access-token", &["netlify"], "[0-9A-Za-z=_-]{40,46}").entropy(3.0),
    token("vercel-token", &["vcp_", "vci_", "vca_", "vcr_", "vck_"], "vc[piark]_[0-9A-Za-z]{40,60}")
        .entropy(3.0),
    value("vercel-access-token", &["vercel"], "[0-9A-Za-z]{24}").check(Check::Mixed),
    token("vercel-blob-token", &["vercel_blob_rw_"], "vercel_blob_rw_[0-9A-Za-z]{16}_[0-9A-Za-z]{30}")
        .entropy(3.0),
    token("cloudflare-origin-ca-key", &["v1.0-"], "v1\\.0-[0-9a-f]{24}-[0-9a-f]{146}").entropy(2.0),
    value("cloudflare-api-token", &["cloudflare", "cf_api", "cf_token"], "[0-9A-Za-z_-]{40}").entropy(3.0),
    value("cloudflare-global-key", &["cloudflare", "cf_api", "x-auth-key"], "[0-9a-f]{37}"),
    token("cloudflare-user-token", &["cfut_", "cfat_", "cfk_"], "cf(?:ut|at|k)_[0-9A-Za-z]{40,60}")
        .entropy(3.0),
    value("fastly-api-token", &["fastly"], "[0-9A-Za-z=_-]{32}").entropy(3.0),
    token("linode-token", &["linode_"], "linode_[0-9a-f]{64}"),
    value("linode-api-token", &["linode"], "[0-9a-f]{64}"),
    token("vultr-api-key", &["vultr_"], "vultr_[0-9A-Za-z]{36}"),
    value("vultr-access-key", &["vultr"], "[0-9A-Z]{36}").entropy(3.3),
    value("hetzner-api-token", &["hetzner", "hcloud"], "[0-9A-Za-z]{64}").entropy(3.5),
    value("ovh-key", &["ovh"], "[0-9A-Za-z]{32}").check(Check::Mixed),
    token("scaleway-access-key", &["SCW"], "SCW[0-9A-Z]{17}").entropy(3.0),
    value("scaleway-secret-key", &["scw_secret", "scaleway"], UUID),
    token("scalingo-token", &["tk-us-"], "tk-us-[0-9A-Za-z_-]{48}").entropy(2.0),
    token(
        "flyio-token",
        &["fo1_", "fm1a_", "fm1r_", "fm2_"],
        "(?:fo1_[0-9A-Za-z_-]{43}|fm1[ar]_[0-9A-Za-z+/]{100,}={0,3}|fm2_[0-9A-Za-\
            z+/]{100,}={0,3})",
    )
    .entropy(3.5),
    token("render-api-key", &["rnd_"], "rnd_[0-9A-Za-z]{28,40}").entropy(3.0),
    value("railway-token", &["railway"], UUID),
    value(
        "ibm-cloud-iam-key",
        &["ibm", "cloud_iam", "cloud-iam", "iam_api", "iam-api", "bluemix"],
        "[0-9A-Za-z_-]{44}",
    )
    .entropy(3.3),
    value("ibm-cos-hmac-key", &["cos_hmac", "cos-hmac", "hmac", "cos_", "ibm"], "[0-9a-f]{48}"),
    value("softlayer-api-key", &["softlayer", "sl_api", "sl-api", "sl_key", "slapi"], "[0-9a-z]{64}"),
    token(
        "softlayer-soap-key",
        &["api.softlayer.com/soap/"],
        "api\\.softlayer\\.com/soap/v3(?:\\.1)?/[0-9a-z]{64}",
    ),
    token("terraform-cloud-token", &[".atlasv1."], "[0-9A-Za-z]{14}\\.atlasv1\\.[0-9A-Za-z_=-]{60,70}")
        .anchor(Anchor::Before(14))
        .entropy(3.0),
    value("terraform-password", &["administrator_login_password"], "[0-9A-Za-z=_!@#$%^&*-]{8,40}")
        .entropy(2.5),
    token("vault-service-token", &["hvs."], "hvs\\.[0-9A-Za-z_-]{90,130}").entropy(3.0),
    token("vault-short-token", &["hvs.", "hvp."], "hv[sp]\\.[0-9A-Za-z]{24}").entropy(3.2),
    token("vault-batch-token", &["hvb."], "hvb\\.[0-9A-Za-z_-]{100,}").entropy(3.0),
    token("vault-recovery-token", &["hvr."], "hvr\\.[0-9A-Za-z_-]{24,}").entropy(3.0),
    value("vault-legacy-token", &["vault"], "s\\.[0-9A-Za-z]{24}(?:\\.[0-9A-Za-z]{5})?").entropy(3.3),
    token("pulumi-token", &["pul-"], "pul-[0-9a-f]{40}"),
    token(
        "doppler-token",
        &["dp."],
        "dp\\.(?:pt|st|ct|sa|scim|audit)\\.(?:[0-9a-z_-]{2,35}\\.)?[0-9A-Za-z]{40,44}",
    ),
    token("infisical-token", &["st."], "st\\.[0-9a-f]{24}\\.[0-9a-f]{32}\\.[0-9a-f]{32}"),
    token("1password-service-token", &["ops_eyJ"], "ops_eyJ[0-9A-Za-z+/_-]{250,}={0,3}").entropy(3.5),
    token(
        "1password-secret-key",
        &["A3-"],
        "A3-[0-9A-Z]{6}-(?:[0-9A-Z]{11}|[0-9A-Z]{6}-[0-9A-Z]{5})(?:-[0-9A-Z]{5}){3}",
    )
    .entropy(3.0),
    token("age-secret-key", &["AGE-SECRET-KEY-1"], "AGE-SECRET-KEY-1[0-9A-Za-z]{58}").entropy(2.8),
    token("openshift-token", &["sha256~"], "sha256~[0-9A-Za-z_-]{43}").entropy(3.3),
    token("databricks-token", &["dapi"], "dapi[0-9a-f]{32}(?:-[0-9])?").entropy(2.6),
    token("tailscale-key", &["tskey-"], "tskey-[a-z]{2,12}-[0-9A-Za-z_]{8,20}(?:-[0-9A-Za-z_]{10,40})?")
        .entropy(3.0),
    token("defined-networking-token", &["dnkey-"], "dnkey-[0-9A-Za-z=_-]{26}-[0-9A-Za-z=_-]{52}")
        .entropy(3.0),
    value("meraki-api-key", &["meraki"], "[0-9a-f]{40}"),
    value("wireguard-private-key", &["PrivateKey", "PresharedKey"], "[0-9A-Za-z+/]{42}[AEIMQUYcgkosw048]=")
        .entropy(3.5),
    token("portainer-token", &["ptr_"], "ptr_[0-9A-Za-z+/]{42,43}=?").entropy(3.5),
    token("rancher-token", &["token-"], "token-[0-9a-z]{5}:[0-9a-z]{54}").entropy(3.0),
    token("oracle-ocid-key", &["ocid1.credential."], "ocid1\\.credential\\.[0-9a-z.-]{40,}"),
    token("yandex-iam-token", &["t1."], "t1\\.[0-9A-Za-z_-]{10,}={0,2}\\.[0-9A-Za-z_-]{86}={0,2}")
        .entropy(3.0),
    token("yandex-api-key", &["AQVN"], "AQVN[0-9A-Za-z_-]{35,38}").entropy(3.0),
    value("yandex-aws-key", &["yandex"], "YC[0-9A-Za-z_-]{38}").entropy(3.0),
    token("clickhouse-secret-key", &["4b1d"], "4b1d[0-9A-Za-z]{38}").entropy(3.3).check(Check::Mixed),
    value("truenas-api-key", &["truenas"], "[0-9]{1,3}-[0-9A-Za-z]{64}"),
    value("adobe-client-id", &["adobe"], "[0-9a-f]{32}"),
    token("adobe-client-secret", &["p8e-"], "p8e-[0-9A-Za-z_-]{32}").entropy(3.0),
];

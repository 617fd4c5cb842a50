//! Payments, banks, exchanges, shops, shipping.

use super::{Check, Rule, UUID, token, value};

pub(super) const RULES: &[Rule] = &[
    token(
        "stripe-key",
        &["sk_live_", "sk_test_", "sk_prod_", "rk_live_", "rk_test_", "rk_prod_"],
        "[sr]k_(?:live|test|prod)_[0-9A-Za-z]{10,}",
    )
    .entropy(2.8),
    token("stripe-webhook-secret", &["whsec_"], "whsec_[0-9A-Za-z+/]{32,64}=?").entropy(3.0),
    token(
        "square-access-token",
        &["EAAA", "sq0atp-"],
        "(?:EAAA[0-9A-Za-z_+=-]{56,64}|sq0atp-[0-9A-Za-z_+=-]{22,60})",
    )
    .entropy(2.8),
    token("square-secret", &["sq0csp-", "sq0idp-"], "sq0(?:csp|idp)-[0-9A-Za-z_-]{22,44}").entropy(2.8),
    token(
        "paypal-braintree-token",
        &["access_token$production$", "access_token$sandbox$"],
        "access_token\\$(?:production|sandbox)\\$[0-9a-z]{16}\\$[0-9a-f]{32}",
    ),
    value("paypal-secret", &["paypal"], "E[0-9A-Za-z_-]{79}").entropy(3.5),
    token("razorpay-key", &["rzp_live_", "rzp_test_"], "rzp_(?:live|test)_[0-9A-Za-z]{14}"),
    token("flutterwave-key", &["FLWPUBK", "FLWSECK"], "FLW(?:PUBK|SECK)(?:_TEST)?-[0-9a-h]{12,32}(?:-X)?")
        .entropy(2.2),
    token("adyen-key", &["AQE"], "AQE[0-9A-Za-z]{10,16}[0-9A-Za-z+/=-]{100,}").entropy(3.5),
    token("checkout-key", &["sk_sbox_"], "sk_sbox_[0-9a-z]{26,32}"),
    token("gocardless-token", &["live_"], "live_[0-9A-Za-z_=-]{40}").entropy(3.3),
    token("lob-key", &["live_", "test_"], "(?:live|test)_(?:pub_[0-9a-f]{31}|[0-9a-f]{35})").entropy(2.8),
    token(
        "plaid-token",
        &["access-sandbox-", "access-development-", "access-production-"],
        "access-(?:sandbox|development|production)-[0-9a-f]{8}-(?:[0-9a-f]{4}-){3\
            }[0-9a-f]{12}",
    ),
    value("plaid-client-id", &["plaid"], "[0-9a-z]{24}").entropy(3.0),
    value("plaid-secret", &["plaid"], "[0-9a-z]{30}").entropy(3.0),
    value("freshbooks-token", &["freshbooks"], "[0-9a-z]{64}").entropy(3.0),
    value("quickbooks-secret", &["quickbooks", "intuit"], "[0-9A-Za-z]{40}").check(Check::Mixed),
    value("xero-secret", &["xero"], "[0-9A-Za-z_-]{48}").check(Check::Mixed),
    value("finicity-token", &["finicity"], "[0-9a-f]{32}"),
    value("finicity-secret", &["finicity"], "[0-9A-Za-z]{20}").entropy(3.0),
    value("finnhub-token", &["finnhub"], "[0-9a-z]{20}").entropy(3.0),
    value("alpha-vantage-key", &["alphavantage", "alpha_vantage"], "[0-9A-Z]{16}").entropy(3.0),
    value("polygon-key", &["polygon"], "[0-9A-Za-z_]{32}").check(Check::Mixed),
    value("alpaca-secret", &["alpaca", "apca"], "[0-9A-Za-z]{40}").check(Check::Mixed),
    value("coinbase-token", &["coinbase"], "[0-9A-Za-z_-]{64}").entropy(3.0),
    value("kraken-key", &["kraken"], "[0-9A-Za-z/=_+-]{80,90}").entropy(3.3),
    value("kucoin-key", &["kucoin"], "[0-9a-f]{24}"),
    value("kucoin-secret", &["kucoin"], UUID),
    value("bittrex-key", &["bittrex"], "[0-9a-z]{32}"),
    value("binance-key", &["binance"], "[0-9A-Za-z]{64}").entropy(3.8),
    value("bitfinex-key", &["bitfinex"], "[0-9A-Za-z]{43}").entropy(3.5),
    value("etherscan-key", &["etherscan"], "[0-9A-Z]{34}").entropy(3.3),
    value("infura-secret", &["infura"], "[0-9a-f]{32}"),
    value("alchemy-key", &["alchemy"], "[0-9A-Za-z_-]{32}").check(Check::Mixed),
    value(
        "wallet-private-key",
        &["private_key", "privatekey", "private-key", "deployer", "wallet"],
        "(?:0x)?[0-9a-f]{64}",
    ),
    token("bitcoin-extended-key", &["xprv"], "xprv[1-9A-HJ-NP-Za-km-z]{107}"),
    token(
        "shopify-token",
        &["shpat_", "shpca_", "shppa_", "shpss_", "shptka_", "shprt_"],
        "shp(?:at|ca|pa|ss|tka|rt)_[0-9A-Fa-f]{32}",
    )
    .entropy(2.6),
    token("shippo-token", &["shippo_"], "shippo_(?:live|test)_[0-9a-f]{40}"),
    token("easypost-key", &["EZAK", "EZTK"], "EZ[AT]K[0-9A-Za-z]{54}").entropy(3.0),
    token("duffel-token", &["duffel_"], "duffel_(?:test|live)_[0-9A-Za-z_=-]{43}"),
    value("etsy-token", &["etsy"], "[0-9a-z]{24}").entropy(3.0),
    value("ebay-secret", &["ebay"], "(?:PRD|SBX)-[0-9a-f]{12}-(?:[0-9a-f]{4}-){3}[0-9a-f]{4}"),
    value("squarespace-token", &["squarespace"], UUID),
    token("woocommerce-key", &["ck_", "cs_"], "c[ks]_[0-9a-f]{40}"),
    token("freemius-key", &["sk_"], "sk_[0-9A-Za-z_~!@#$%^&*+{}|<>?.-]{29}").entropy(4.0).check(Check::Mixed),
    token(
        "paddle-key",
        &["pdl_"],
        "pdl_(?:live_|sdbx_)(?:apikey_)?[0-9a-z]{26}_[0-9A-Za-z]{22}_[0-9A-Za-z]{3}",
    ),
    token("klarna-key", &["klarna_"], "klarna_(?:live|test)_(?:api|client)_[0-9A-Za-z+/=_-]{40,}"),
    token("mollie-key", &["live_", "test_"], "(?:live|test)_[0-9A-Za-z]{30}")
        .entropy(3.5)
        .check(Check::Mixed),
];

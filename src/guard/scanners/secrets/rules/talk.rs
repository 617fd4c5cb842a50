//! Chat, mail, telephony, social networks.

use super::{Anchor, Check, Rule, UUID, token, value};

pub(super) const RULES: &[Rule] = &[
    token("slack-bot-token", &["xoxb-"], "xoxb-[0-9]{8,14}-[0-9A-Za-z-]{16,}").entropy(3.0),
    token(
        "slack-user-token",
        &["xoxp-", "xoxe-", "xoxo-", "xoxs-"],
        "xox[peos]-[0-9]{1,14}-[0-9A-Za-z-]{10,}",
    )
    .entropy(2.8),
    token("slack-legacy-token", &["xoxa-", "xoxr-"], "xox[ar]-(?:[0-9]-)?[0-9A-Za-z-]{8,}").entropy(2.6),
    token("slack-app-token", &["xapp-"], "xapp-[0-9]-[0-9A-Za-z]{1,20}-[0-9]{1,20}-[0-9A-Za-z]{1,}")
        .entropy(2.0),
    token("slack-config-token", &["xoxe.xox"], "xoxe\\.xox[bp]-[0-9]-[0-9A-Za-z]{100,}"),
    token("slack-cookie", &["xoxd-"], "xoxd-[0-9A-Za-z%+/=_-]{40,}"),
    token(
        "slack-webhook",
        &["hooks.slack.com/"],
        "hooks\\.slack(?:-gov)?\\.com/(?:services|workflows|triggers)/[0-9A-Za-z+/]{40,90}",
    ),
    token(
        "discord-bot-token",
        &[
            "MTA", "MTE", "MTI", "MTM", "MTQ", "MTU", "MTY", "MTc", "MTg", "MTk", "MjA", "MjE", "MjI", "MjM",
            "MjQ", "MjU", "MjY", "Mjc", "Mjg", "Mjk", "MzA", "MzE", "MzI", "MzM", "MzQ", "MzU", "MzY", "Mzc",
            "Mzg", "Mzk", "NjA", "NjE", "NjI", "NjM", "NjQ", "NjU", "NjY", "Njc", "Njg", "Njk", "NzA", "NzE",
            "NzI", "NzM", "NzQ", "NzU", "NzY", "Nzc", "Nzg", "Nzk",
        ],
        "[MN][0-9A-Za-z_-]{23,25}\\.[0-9A-Za-z_-]{6}\\.[0-9A-Za-z_-]{27,38}",
    )
    .entropy(3.5),
    token(
        "discord-webhook",
        &["discord.com/api/webhooks/", "discordapp.com/api/webhooks/"],
        "discord(?:app)?\\.com/api/webhooks/[0-9]{15,20}/[0-9A-Za-z_-]{50,80}",
    ),
    value("discord-token", &["discord"], "[0-9A-Za-z_.-]{50,80}").entropy(3.0),
    value("discord-client-secret", &["discord"], "[0-9A-Za-z=_-]{32}").entropy(3.0),
    value("discord-client-id", &["discord"], "[0-9]{17,19}").entropy(2.0),
    token("telegram-bot-token", &[":AA"], "[0-9]{8,10}:AA[0-9A-Za-z_-]{32,33}")
        .anchor(Anchor::Digits)
        .inside()
        .entropy(3.5),
    value("telegram-token", &["telegram", "telegr"], "[0-9]{5,16}:A[0-9A-Za-z_-]{34}").entropy(3.0),
    token(
        "teams-webhook",
        &[".webhook.office.com/", "outlook.office.com/webhook/"],
        "(?:\\.webhook\\.office\\.com/webhookb2|outlook\\.office\\.com/webhook)/[\
            0-9a-f@-]{73}/IncomingWebhook/[0-9a-f]{32}/[0-9a-f-]{36}",
    )
    .inside(),
    token(
        "google-chat-webhook",
        &["chat.googleapis.com/v1/spaces/"],
        "chat\\.googleapis\\.com/v1/spaces/[0-9A-Za-z_-]{8,20}/messages\\?key=[0-\
            9A-Za-z_-]{39}&token=[0-9A-Za-z_%=-]{40,60}",
    ),
    token(
        "zapier-webhook",
        &["hooks.zapier.com/hooks/catch/"],
        "hooks\\.zapier\\.com/hooks/catch/[0-9]{5,10}/[0-9A-Za-z]{5,12}/?",
    ),
    token(
        "ifttt-webhook",
        &["maker.ifttt.com/trigger/"],
        "maker\\.ifttt\\.com/trigger/[0-9A-Za-z_-]{1,40}/with/key/[0-9A-Za-z_-]{20,50}",
    ),
    value("mattermost-token", &["mattermost"], "[0-9a-z]{26}").entropy(3.0),
    value("gitter-token", &["gitter"], "[0-9A-Za-z_-]{40}").entropy(3.0),
    value("zulip-key", &["zulip"], "[0-9A-Za-z]{32}").check(Check::Mixed),
    token("sendgrid-key", &["SG."], "SG\\.[0-9A-Za-z=_-]{20,24}\\.[0-9A-Za-z=_-]{39,50}").entropy(3.0),
    token("sendgrid-dotted-key", &["SG."], "SG\\.[0-9A-Za-z=_.-]{66}").entropy(3.0),
    token("mailgun-private-key", &["key-"], "key-[0-9a-f]{32}").entropy(2.8),
    token("mailgun-public-key", &["pubkey-"], "pubkey-[0-9a-f]{32}").entropy(2.8),
    value("mailgun-signing-key", &["mailgun"], "[0-9a-h]{32}-[0-9a-h]{8}-[0-9a-h]{8}").entropy(2.6),
    value("mailgun-token", &["mailgun"], "(?:pub)?(?:key-)?[0-9a-f]{32}"),
    token("mailchimp-key", &["-us"], "[0-9a-f]{32}-us[0-9]{1,2}").anchor(Anchor::Before(32)).entropy(2.8),
    token("brevo-key", &["xkeysib-", "xsmtpsib-"], "x(?:key|smtp)sib-[0-9a-f]{64}-[0-9A-Za-z]{16}"),
    token("resend-key", &["re_"], "re_[0-9A-Za-z]{8}_[0-9A-Za-z]{20,26}").entropy(3.5).check(Check::Mixed),
    token("mailersend-token", &["mlsn."], "mlsn\\.[0-9a-f]{64}"),
    value("postmark-token", &["postmark"], UUID),
    value("sparkpost-key", &["sparkpost"], "[0-9a-f]{40}"),
    value("mandrill-key", &["mandrill"], "(?:md-)?[0-9A-Za-z_-]{22}"),
    token("twilio-key", &["SK", "AC"], "(?:SK|AC)[0-9a-f]{32}").entropy(2.8),
    value("twilio-auth-token", &["twilio"], "[0-9a-f]{32}"),
    value("messagebird-key", &["messagebird", "message_bird", "message-bird"], "[0-9a-z]{25}"),
    value("messagebird-client-id", &["messagebird", "message_bird", "message-bird"], UUID),
    value("vonage-secret", &["nexmo", "vonage"], "[0-9A-Za-z]{16}").check(Check::Mixed),
    value("plivo-token", &["plivo"], "[0-9A-Za-z]{40}").check(Check::Mixed),
    value("sendbird-token", &["sendbird"], "[0-9a-f]{40}"),
    value("sendbird-app-id", &["sendbird"], UUID),
    value("stream-secret", &["getstream", "stream_secret"], "[0-9a-z]{64}"),
    value("intercom-token", &["intercom"], "[0-9A-Za-z=_-]{60}").entropy(3.0),
    token("intercom-access-token", &["dG9rO"], "dG9rO[0-9A-Za-z+/]{50,60}={0,2}").entropy(3.0),
    value("zendesk-token", &["zendesk"], "[0-9A-Za-z]{40}").entropy(3.0),
    value("freshdesk-key", &["freshdesk"], "[0-9A-Za-z]{20}").check(Check::Mixed),
    value("facebook-secret", &["facebook", "fb_app", "fb_secret"], "[0-9a-f]{32}"),
    value("facebook-access-token", &["facebook"], "[0-9]{15,16}(?:\\||%7[Cc])[0-9A-Za-z_-]{27,40}")
        .entropy(3.0),
    token("facebook-token", &["EAA"], "EAA[A-Z][0-9A-Za-z]{60,}").entropy(3.5).check(Check::Mixed),
    token("instagram-token", &["IGQ"], "IGQ[VWR][0-9A-Za-z_-]{80,}").entropy(3.5),
    token("twitter-bearer-token", &["AAAAAAAAAAAAAAAAAAAAA"], "A{21,22}[0-9A-Za-z%]{76,110}").entropy(3.0),
    value("twitter-access-token", &["twitter"], "[0-9]{15,25}-[0-9A-Za-z]{20,45}").entropy(3.0),
    value("twitter-api-key", &["twitter", "x_api", "consumer"], "[0-9A-Za-z]{25}").check(Check::Mixed),
    value("twitter-api-secret", &["twitter", "consumer"], "[0-9A-Za-z]{45}|[0-9A-Za-z]{50}").entropy(3.0),
    value("twitter-key", &["twitter"], "[0-9a-z]{25}").entropy(3.0),
    value("linkedin-client-id", &["linkedin", "linked_in", "linked-in"], "[0-9a-z]{14}").entropy(2.0),
    value("linkedin-client-secret", &["linkedin", "linked_in", "linked-in"], "[0-9A-Za-z]{16}").entropy(2.5),
    token("linkedin-secret", &["WPL_AP1."], "WPL_AP1\\.[0-9A-Za-z]{16}\\.[0-9A-Za-z+/=]{8}"),
    value("twitch-token", &["twitch"], "(?:oauth:)?[0-9a-z]{30}").entropy(3.0),
    value("reddit-secret", &["reddit"], "[0-9A-Za-z_-]{27,30}").check(Check::Mixed).entropy(3.3),
    value("flickr-token", &["flickr"], "[0-9a-z]{32}"),
    value("pinterest-token", &["pinterest"], "pina_[0-9A-Za-z]{60,80}"),
    value("spotify-secret", &["spotify"], "[0-9a-f]{32}"),
    value("tiktok-secret", &["tiktok"], "[0-9a-f]{32,40}"),
    value("line-channel-secret", &["line_channel", "line-channel"], "[0-9a-f]{32}"),
    value("line-channel-token", &["line_channel", "line-channel"], "[0-9A-Za-z+/]{160,}={0,2}"),
    value("wechat-secret", &["wechat", "weixin"], "[0-9a-f]{32}"),
    token(
        "feishu-webhook",
        &["open.feishu.cn/open-apis/bot/"],
        "open\\.feishu\\.cn/open-apis/bot/v2/hook/[0-9a-f-]{36}",
    ),
    token(
        "dingtalk-webhook",
        &["oapi.dingtalk.com/robot/send"],
        "oapi\\.dingtalk\\.com/robot/send\\?access_token=[0-9a-f]{64}",
    ),
    token(
        "wecom-webhook",
        &["qyapi.weixin.qq.com/cgi-bin/webhook"],
        "qyapi\\.weixin\\.qq\\.com/cgi-bin/webhook/send\\?key=[0-9a-f-]{36}",
    ),
];

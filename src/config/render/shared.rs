//! `[redis]` as the file would say it.

use super::{Page, masked};
use crate::config::shared::Redis;

pub(super) fn write(page: &mut Page, redis: &Redis) {
    page.header("[redis]");
    page.text("url", redis.url());
    redis.username.iter().for_each(|name| page.text("username", name));
    redis.password.iter().for_each(|secret| page.text("password", masked(Some(secret))));
    redis.ca.iter().for_each(|path| page.text("ca", path.display()));
    page.time("timeout", redis.timeout);
    page.text("prefix", &redis.prefix);
}

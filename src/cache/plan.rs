//! What one request may do with the cache: the settings, the task, the model, and what the request itself says.

use std::time::Duration;

use crate::api::{CacheControl, Task};
use crate::config::cache::{Cache, Cached};

/// What is done for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// A stored answer may be given.
    pub reads: bool,
    /// The answer may be stored, for so long.
    pub stores: Option<Duration>,
    /// Age in seconds that a stored answer may have.
    pub age_max_s: Option<u64>,
    /// No endpoint may be asked.
    pub only_if_cached: bool,
    /// Equal requests may share one answer.
    pub coalesces: bool,
}

/// Which of the configured kinds a task is; `None`: it is never answered from a cache, because it changes something at
/// the endpoint, or asks about the endpoint itself.
#[must_use]
pub fn kind_of(task: Task) -> Option<Cached> {
    match task {
        Task::Chat | Task::Messages | Task::NativeChat => Some(Cached::Chat),
        Task::Completions | Task::NativeGenerate => Some(Cached::Completions),
        Task::Embeddings | Task::NativeEmbed | Task::NativeEmbeddings => Some(Cached::Embeddings),
        Task::Responses | Task::CountTokens | Task::NativeShow | Task::Other => None,
    }
}

impl Plan {
    /// For a request of `task` to a model that `allows` it; `None`: the cache has nothing to do with it.
    #[must_use]
    pub fn of(settings: &Cache, task: Task, allows: bool, control: &CacheControl) -> Option<Self> {
        let is_kept =
            settings.is_on() && allows && kind_of(task).is_some_and(|kind| settings.tasks.contains(&kind));
        if !is_kept || !control.use_cache.unwrap_or(settings.by_default) {
            return None;
        }
        let ttl = control.ttl_s.map_or(settings.ttl, Duration::from_secs).min(settings.ttl_max);
        let plan = Self {
            reads: !control.no_cache,
            stores: (!control.no_store && !ttl.is_zero()).then_some(ttl),
            age_max_s: control.age_max_s,
            only_if_cached: control.only_if_cached && !control.no_cache,
            coalesces: settings.coalesce && !control.no_cache && !control.no_store,
        };
        (plan.reads || plan.stores.is_some()).then_some(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::cache::Store;

    #[test]
    fn requests_have_their_say_within_the_settings() {
        let hour = Duration::from_secs(3600);
        let on = Cache { store: Store::Memory, ..Cache::default() };
        let plan = |settings: &Cache, control: CacheControl| Plan::of(settings, Task::Chat, true, &control);
        let none = CacheControl::default();
        let usual =
            Plan { reads: true, stores: Some(hour), age_max_s: None, only_if_cached: false, coalesces: true };
        assert_eq!(plan(&on, none.clone()), Some(usual.clone()));
        assert_eq!(plan(&Cache::default(), none.clone()), None, "it is off");
        assert_eq!(Plan::of(&on, Task::Chat, false, &none), None, "the model is left out");
        assert_eq!(Plan::of(&on, Task::Responses, true, &none), None, "it changes something");
        let chats = Cache { tasks: vec![Cached::Chat], ..on.clone() };
        assert_eq!(Plan::of(&chats, Task::NativeEmbed, true, &none), None);
        assert_eq!(Plan::of(&chats, Task::NativeChat, true, &none), Some(usual.clone()));

        let asks = |change: &dyn Fn(&mut CacheControl)| {
            let mut control = CacheControl::default();
            change(&mut control);
            control
        };
        let fresh = asks(&|control| control.no_cache = true);
        assert_eq!(plan(&on, fresh), Some(Plan { reads: false, coalesces: false, ..usual.clone() }));
        let private = asks(&|control| control.no_store = true);
        assert_eq!(plan(&on, private), Some(Plan { stores: None, coalesces: false, ..usual.clone() }));
        let neither = asks(&|control| (control.no_store, control.no_cache) = (true, true));
        assert_eq!(plan(&on, neither), None);
        let short = asks(&|control| control.ttl_s = Some(5));
        assert_eq!(plan(&on, short), Some(Plan { stores: Some(Duration::from_secs(5)), ..usual.clone() }));
        let long = asks(&|control| control.ttl_s = Some(u64::MAX));
        assert_eq!(plan(&on, long), Some(Plan { stores: Some(24 * hour), ..usual.clone() }));
        let never = asks(&|control| control.ttl_s = Some(0));
        assert_eq!(plan(&on, never), Some(Plan { stores: None, ..usual.clone() }));

        let off = Cache { by_default: false, ..on.clone() };
        let wants = |wants| asks(&|control| control.use_cache = Some(wants));
        assert_eq!(plan(&off, none), None);
        assert_eq!(plan(&off, wants(true)), Some(usual));
        assert_eq!(plan(&on, wants(false)), None);
    }
}

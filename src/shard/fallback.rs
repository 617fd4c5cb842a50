//! Other models in the place of one that has failed.
//!
//! When the attempts of a model are spent, its fallbacks are asked, each with attempts of its own, all under the exchange's one
//! deadline. A caller's key and the guard hold for every one of them: a model that the key may not use is passed over, a
//! profile of the fallback's own reads the request too, and a request that one profile has redacted does not go to a
//! model under another. The answer carries the name of the model that gave it.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use super::Shard;
use super::access::Record;
use super::admit::Admitted;
use super::answered::Answered;
use super::attempt::Attempts;
use super::exchange::{Exit, read_view};
use super::head::Incoming;
use super::limited::Patience;
use super::screen::{self, Screen};
use crate::api::{Failure, FailureKind, Task, Texts, View};
use crate::catalog::Deployment;
use crate::config::guard::Language;
use crate::guard::Profile;
use crate::refusal;
use crate::retry::{Fallbacks, falls_back};
use crate::world::{Reservation, Who};

/// A request that has been let in and read, and the model that it goes to.
pub struct Asked<'a> {
    /// Where it runs.
    pub shard: &'a Rc<Shard>,
    /// As it came.
    pub incoming: &'a Incoming,
    /// Where its body begins.
    pub body_at: usize,
    /// What was read of the body.
    pub view: View,
    /// What is asked for.
    pub task: Task,
    /// Who asks.
    pub admitted: &'a Admitted,
    /// Whose requests it counts with while it waits.
    pub who: Who<'a>,
    /// The model, now.
    pub deployment: Arc<Deployment>,
    /// Whose scanners read the answer.
    pub profile: Option<&'a Arc<Profile>>,
    /// What the client is told in.
    pub language: Language,
}

impl<'a> Asked<'a> {
    /// Asks the model, then those that stand in for it, until one has content.
    ///
    /// # Errors
    /// The failure of the last one asked.
    pub async fn first_content(
        &mut self,
        patience: &mut Patience<'_>,
        held: &mut Reservation,
        record: &mut Record,
    ) -> Result<Box<Answered>, Exit> {
        let settings = &self.shard.world.config.fallbacks;
        let mut chain: Option<Fallbacks> = None;
        loop {
            let named = if chain.is_none() { &self.view.model } else { &self.deployment.name };
            let attempts = Attempts {
                shard: self.shard,
                deployment: &self.deployment,
                incoming: self.incoming,
                body_at: self.body_at,
                view: &self.view,
                task: self.task,
                named,
                who: self.who,
            };
            let failure = if self.deployment.serves(&self.shard.world.registry, self.task) {
                let result = pin!(attempts.first_content(patience, held, record)).await;
                match result {
                    Err(Some(failure)) => failure,
                    done => return done,
                }
            } else {
                refusal::not_served(&self.deployment, self.task)
            };
            let too_long = failure.says_context_is_exceeded();
            if !too_long && !falls_back(&failure) {
                return Err(Some(failure));
            }
            let own = match &*self.deployment {
                one if too_long && (!one.context_window_fallbacks.is_empty() || !falls_back(&failure)) => {
                    &one.context_window_fallbacks
                }
                one => one.fallbacks_of(chain.is_none(), settings),
            };
            let own = own.clone();
            let chain =
                chain.get_or_insert_with(|| Fallbacks::new(&self.deployment.name, settings.models_max));
            if !Box::pin(self.go_on(chain, own, held, record)).await? {
                return Err(Some(failure));
            }
        }
    }

    /// What reads the answer, if anything does.
    #[must_use]
    pub fn screen(&self) -> Option<Box<Screen>> {
        self.profile.and_then(|profile| Screen::new(profile, self.task, self.language))
    }

    /// Turns to the next model that may be asked; `false`: there is none.
    async fn go_on(
        &mut self,
        chain: &mut Fallbacks,
        mut own: Vec<String>,
        held: &mut Reservation,
        record: &mut Record,
    ) -> Result<bool, Exit> {
        while let Some(model) = chain.next(&std::mem::take(&mut own)) {
            let Some(deployment) = self.shard.deployment(&model) else { continue };
            if !deployment.serves(&self.shard.world.registry, self.task) || !self.admitted.may_use(&model) {
                continue;
            }
            let caller = self.admitted.caller.as_ref().and_then(|caller| caller.guard);
            let profile = self.shard.world.guard.profile(caller.or(deployment.guard));
            let other = profile.filter(|&new| self.profile.is_none_or(|old| !Arc::ptr_eq(new, old)));
            if let Some(profile) = other {
                if !self.view.redactions.is_empty() {
                    continue;
                }
                self.read_again(profile, held, record).await?;
            }
            self.shard.metrics().fallbacks.add(1);
            record.falls_back(&deployment);
            self.deployment = deployment;
            return Ok(true);
        }
        Ok(false)
    }

    /// Has another profile read the request.
    async fn read_again(
        &mut self,
        profile: &'a Arc<Profile>,
        held: &mut Reservation,
        record: &mut Record,
    ) -> Result<(), Exit> {
        let body = self.incoming.buffer.get(self.body_at..).unwrap_or_default();
        let mut texts = Texts::default();
        let again = read_view(self.shard, body, self.task, &mut texts);
        self.view = again.map_err(|error| {
            Some(Failure::new(FailureKind::Internal, format!("The body reads anew as {error}.")))
        })?;
        if !held.raise_to(self.incoming.buffer.capacity() + texts.all.capacity()) {
            return Err(Some(refusal::too_many_large("requests")));
        }
        let read = screen::request(self.shard, profile, &texts, body, &mut self.view, record);
        self.language = read.await.map_err(Some)?;
        self.profile = Some(profile);
        Ok(())
    }
}

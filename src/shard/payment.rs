//! Who pays for a stream that several clients share: the one who asked first, also for what comes after it has left.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::Shard;
use crate::api::Usage;
use crate::catalog::Deployment;
use crate::limit::key::Caller;
use crate::usage::spend::Bill;

/// What a stream has used and what of it is paid. When nobody holds it any more, the rest is charged.
pub struct Payment {
    shard: Rc<Shard>,
    caller: Option<Arc<Caller>>,
    deployment: Arc<Deployment>,
    used: Cell<Usage>,
    paid: Cell<Usage>,
}

impl Payment {
    /// Nothing is used or paid yet.
    #[must_use]
    pub fn new(shard: &Rc<Shard>, caller: Option<Arc<Caller>>, deployment: Arc<Deployment>) -> Rc<Self> {
        let (used, paid) = (Cell::default(), Cell::default());
        Rc::new(Self { shard: Rc::clone(shard), caller, deployment, used, paid })
    }

    /// The endpoint has counted so much in all.
    pub fn used(&self, usage: Usage) {
        self.used.set(usage);
    }

    /// So much of it is paid by the exchange that asked first.
    pub fn paid(&self, usage: Usage) {
        self.paid.set(usage);
    }
}

impl Drop for Payment {
    fn drop(&mut self) {
        let (used, paid) = (self.used.get(), self.paid.get());
        let input = used.input_all().saturating_sub(paid.input_all());
        let output = used.output.saturating_sub(paid.output);
        if input == 0 && output == 0 {
            return;
        }
        let price = self.deployment.price;
        let cost = (used.cost(price) - paid.cost(price)).max(0.0);
        let model = self.shard.metrics().model(self.deployment.slot);
        model.tokens_input.add(input);
        model.tokens_output.add(output);
        model.cost.add(cost);
        if let Some(caller) = &self.caller {
            let bill = Bill { input, output, cost, work_us: 0 };
            caller.spend.charge_rest(bill, caller.budget_period, SystemTime::now());
        }
    }
}

//! The life of one model request: read, refused or admitted, prefilled, answered; and every way to fail on the way.

use std::future::{Future as _, pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::anthropic::Anthropic;
use super::ask::{Api, Ask};
use super::embed;
use super::native::Native;
use super::openai::OpenAi;
use super::options::Fault;
use super::rack::{Slot, normalized};
use super::reply::{Exchange, JSON, Next, chunk};
use super::responses::Responses;
use super::server::Sim;
use super::speech::Speech;
use super::stats::{Held, add, get, now_us};
use super::voice::{End, Voice};
use crate::net::{Stop, clock};

/// A write of a stream without pauses holds about so many bytes.
const BATCH_BYTES: usize = 14 * 1024;
const BUSY: &str = "server busy, please try again.  maximum pending requests exceeded";
const INVENTED: &str = "simulated failure";

/// Answers a request to a model.
pub async fn run(exchange: &mut Exchange<'_>, api: Api, body: &[u8]) -> Next {
    let (sim, begin_us, dialect) = (Rc::clone(exchange.sim), now_us(), api.dialect());
    add(&sim.stats.model_requests, 1);
    let ask = match Ask::read(api, body) {
        Ok(ask) => ask,
        Err(text) => return exchange.fail(dialect, 400, &text).await,
    };
    let name = normalized(&ask.model);
    if !sim.has(&name) {
        return exchange.fail(dialect, 404, &format!("model '{}' not found", ask.model)).await;
    }
    let fault = match sim.options.fault {
        Fault::None => Fault::of_model(&name).unwrap_or_default(),
        fault => fault,
    };
    if let Some(next) = fail_at_once(exchange, api, fault).await {
        return next;
    }
    if api == Api::CountTokens {
        return exchange
            .send(200, JSON, format!("{{\"input_tokens\":{}}}", ask.prompt_tokens).as_bytes())
            .await;
    }
    if name.contains("embed") && !api.embeds() {
        let verb = if matches!(api, Api::NativeGenerate | Api::Completions) { "generate" } else { "chat" };
        return exchange.fail(dialect, 400, &format!("\"{}\" does not support {verb}", ask.model)).await;
    }
    let slot = match admit(exchange, &ask, &name).await {
        Ok(slot) => slot,
        Err(Refused::Busy) => return exchange.fail(dialect, 503, BUSY).await,
        Err(Refused::Left(stop)) => return exchange.left(stop),
    };
    if ask.load_only {
        drop(slot);
        return load_only(exchange, api, &ask, &name).await;
    }
    let _generating = Held::new(&sim.stats.generating);
    let mut times = Times { begin_us, admitted_us: now_us(), prefilled_us: 0 };
    if fault == Fault::Hang {
        exchange.watch();
        return match exchange.client.race(pin!(pending::<()>())).await {
            Ok(()) => Next::Close,
            Err(stop) => exchange.left(stop),
        };
    }
    if let Err(stop) = prefill(exchange).await {
        return exchange.left(stop);
    }
    times.prefilled_us = now_us();
    if api.embeds() {
        let body = embed::answer(api, &ask, times.elapsed());
        return whole(exchange, fault, body).await;
    }
    answer(exchange, api, &ask, fault, &times).await
}

/// When the steps of a generation ended, by [`now_us`].
struct Times {
    begin_us: u64,
    admitted_us: u64,
    prefilled_us: u64,
}

impl Times {
    fn elapsed(&self) -> Duration {
        Duration::from_micros(now_us().saturating_sub(self.begin_us))
    }

    fn end(&self, ask: &Ask, speech: &Speech) -> End {
        let between = |from: u64, to: u64| Duration::from_micros(to.saturating_sub(from));
        End {
            reason: speech.reason(),
            prompt_tokens: ask.prompt_tokens,
            tokens: speech.steps() as u64 * u64::from(ask.choices),
            total: self.elapsed(),
            load: between(self.begin_us, self.admitted_us),
            prefill: between(self.admitted_us, self.prefilled_us),
            generation: between(self.prefilled_us, now_us()),
        }
    }
}

/// The faults that need no slot.
async fn fail_at_once(exchange: &mut Exchange<'_>, api: Api, fault: Fault) -> Option<Next> {
    let refused = &exchange.sim.refused;
    let status = match fault {
        Fault::Status(status) => status,
        Fault::StatusFirst(status, times) if refused.get() < times => {
            refused.set(refused.get() + 1);
            status
        }
        Fault::ResetBeforeAnswer | Fault::CloseBeforeAnswer => return Some(Next::Close),
        Fault::CutHead => {
            return Some(exchange.write(b"HTTP/1.1 200 OK\r\nContent-Ty".to_vec(), Next::Close).await);
        }
        _ => return None,
    };
    let text = if status == 503 { BUSY } else { INVENTED };
    Some(exchange.fail(api.dialect(), status, text).await)
}

enum Refused {
    Busy,
    Left(Stop),
}

/// Waits for the model to be loaded and for a slot.
async fn admit(exchange: &mut Exchange<'_>, ask: &Ask, name: &str) -> Result<Slot, Refused> {
    let sim = Rc::clone(exchange.sim);
    let model = sim.rack.model(name, sim.options.slots);
    let keep = ask.keep_alive.unwrap_or(sim.options.keep_alive);
    if let Some(slot) = model.slot_now(keep) {
        return Ok(slot);
    }
    if get(&sim.stats.waiting) >= sim.options.queue_max as u64 {
        return Err(Refused::Busy);
    }
    let _waiting = Held::new(&sim.stats.waiting);
    exchange.watch();
    exchange.client.race(pin!(model.slot(Rc::clone(&sim), keep))).await.map_err(Refused::Left)
}

/// The model has been loaded: says so, and unloads it if that was asked for.
async fn load_only(exchange: &mut Exchange<'_>, api: Api, ask: &Ask, name: &str) -> Next {
    let unload = ask.keep_alive == Some(Duration::ZERO);
    if unload {
        exchange.sim.rack.model(name, exchange.sim.options.slots).unload();
    }
    let mut body = Vec::new();
    Native::new(exchange.sim, api, ask).nothing_said(&mut body, if unload { "unload" } else { "load" });
    exchange.send(200, JSON, &body).await
}

/// Reads the prompt; does not look at the client before its end.
async fn prefill(exchange: &mut Exchange<'_>) -> Result<(), Stop> {
    let time = exchange.sim.options.prefill;
    if time.is_zero() {
        return Ok(());
    }
    exchange.watch();
    let client = &*exchange.client;
    let mut sleep = pin!(clock::sleep(time));
    poll_fn(|cx| match sleep.as_mut().poll(cx) {
        Poll::Pending if client.timer().poll_fired(cx) => Poll::Ready(Err(Stop::Deadline)),
        polled => polled.map(Ok),
    })
    .await?;
    if client.gone() { Err(Stop::ClientGone) } else { Ok(()) }
}

async fn answer(exchange: &mut Exchange<'_>, api: Api, ask: &Ask, fault: Fault, times: &Times) -> Next {
    let sim = exchange.sim;
    let speech = Speech::new(sim, ask);
    let mut voice: Box<dyn Voice> = match api {
        Api::Responses => Box::new(Responses::new(sim, ask)),
        Api::Messages => Box::new(Anthropic::new(sim, ask)),
        Api::NativeChat | Api::NativeGenerate => Box::new(Native::new(sim, api, ask)),
        _ => Box::new(OpenAi::new(sim, api, ask)),
    };
    if ask.stream {
        return Box::pin(stream(exchange, &mut *voice, &speech, ask, fault, times)).await;
    }
    let steps = u32::try_from(speech.steps()).unwrap_or(u32::MAX);
    let time = exchange.sim.options.token_interval.saturating_mul(steps);
    if !time.is_zero() {
        exchange.watch();
        if let Err(stop) = exchange.client.race(pin!(clock::sleep(time))).await {
            return exchange.left(stop);
        }
    }
    if fault == Fault::ErrorEvent {
        return exchange.fail(api.dialect(), 500, INVENTED).await;
    }
    let end = times.end(ask, &speech);
    let mut body = exchange.sim.buffers.large();
    voice.whole(&mut body, &speech, &end);
    add(&exchange.stats().tokens_sent, end.tokens);
    whole(exchange, fault, body).await
}

/// Sends a whole answer, or what the fault makes of it.
async fn whole(exchange: &mut Exchange<'_>, fault: Fault, body: Vec<u8>) -> Next {
    let mut out = exchange.sim.buffers.large();
    let mut next = Next::Keep;
    match fault {
        Fault::CutBody => {
            exchange.head(&mut out, 200, JSON, Some(body.len()));
            out.extend_from_slice(&body[..body.len() / 2]);
            next = Next::Close;
        }
        Fault::WrongLength => {
            exchange.head(&mut out, 200, JSON, Some(body.len().saturating_sub(5)));
            out.extend_from_slice(&body);
        }
        Fault::ChunkedGarbage => {
            exchange.head(&mut out, 200, JSON, None);
            out.extend_from_slice(b"zz\r\n");
            out.extend_from_slice(&body);
            next = Next::Close;
        }
        Fault::GarbageEvent => {
            exchange.head(&mut out, 200, JSON, Some(6));
            out.extend_from_slice(b"{oops:");
        }
        _ => {
            exchange.head(&mut out, 200, JSON, Some(body.len()));
            out.extend_from_slice(&body);
        }
    }
    exchange.sim.buffers.give(body);
    exchange.write(out, next).await
}

/// Sends an answer as it is generated.
async fn stream(
    exchange: &mut Exchange<'_>,
    voice: &mut dyn Voice,
    speech: &Speech,
    ask: &Ask,
    fault: Fault,
    times: &Times,
) -> Next {
    let sim = Rc::clone(exchange.sim);
    let strikes = !matches!(fault, Fault::None | Fault::NoDone | Fault::StatusFirst(..));
    let steps = if strikes { speech.steps().min(sim.options.fault_after) } else { speech.steps() };
    let (mut out, mut batch) = (sim.buffers.large(), sim.buffers.large());
    let mime = if voice.is_sse() { "text/event-stream" } else { "application/x-ndjson" };
    exchange.head(&mut out, 200, mime, None);
    voice.open(&mut batch);
    exchange.watch();
    let mut done = 0;
    let next = loop {
        let due = due(&sim, times, steps);
        voice.batch();
        let begun = done;
        while done < due && batch.len() < BATCH_BYTES {
            let step = speech.step(done, &sim.padding);
            (0..ask.choices).for_each(|choice| voice.step(&mut batch, choice, step));
            done += 1;
        }
        add(&sim.stats.tokens_sent, (done - begun) as u64 * u64::from(ask.choices));
        if done == steps {
            let ending = Ending { sim: &sim, speech, ask, done };
            let next = ending.write(voice, fault, &mut out, &mut batch, &times.end(ask, speech));
            break exchange.write(out, next).await;
        }
        chunk(&mut out, &batch);
        batch.clear();
        if exchange.client.gone() {
            break exchange.left(Stop::ClientGone);
        }
        if !out.is_empty() {
            match exchange.client.write(out).await {
                Ok(sent) => out = sent,
                Err(stop) => break exchange.left(stop),
            }
            out.clear();
        }
        if done >= due
            && let Err(stop) = exchange.client.race(pin!(clock::sleep(until(&sim, times, done)))).await
        {
            break exchange.left(stop);
        }
    };
    sim.buffers.give(batch);
    next
}

/// Tokens that should have been sent by now: the first at the end of prefill.
fn due(sim: &Sim, times: &Times, steps: usize) -> usize {
    let interval_us = sim.options.token_interval.as_micros();
    let passed = u128::from(now_us().saturating_sub(times.prefilled_us));
    match passed.checked_div(interval_us) {
        Some(intervals) => usize::try_from(intervals + 1).unwrap_or(steps).min(steps),
        None => steps,
    }
}

/// How long it is until the next token, at least a tenth of a millisecond.
fn until(sim: &Sim, times: &Times, done: usize) -> Duration {
    let interval_us = u64::try_from(sim.options.token_interval.as_micros()).unwrap_or(u64::MAX);
    let at_us = times.prefilled_us.saturating_add(interval_us.saturating_mul(done as u64));
    Duration::from_micros(at_us.saturating_sub(now_us()).max(100))
}

/// What comes behind the last step.
struct Ending<'a> {
    sim: &'a Sim,
    speech: &'a Speech,
    ask: &'a Ask,
    done: usize,
}

impl Ending<'_> {
    fn write(
        &self,
        voice: &mut dyn Voice,
        fault: Fault,
        out: &mut Vec<u8>,
        batch: &mut Vec<u8>,
        end: &End,
    ) -> Next {
        if fault == Fault::NoDone {
            chunk(out, batch);
            out.extend_from_slice(b"0\r\n\r\n");
            return Next::Keep;
        }
        if fault == Fault::ErrorEvent {
            voice.failed(batch, INVENTED);
            chunk(out, batch);
            out.extend_from_slice(b"0\r\n\r\n");
            return Next::Keep;
        }
        chunk(out, batch);
        batch.clear();
        let next = match fault {
            Fault::CutBody | Fault::WrongLength => {
                let mut event = Vec::new();
                self.rest(voice, &mut event, 1);
                let (announced, sent) = match fault {
                    Fault::CutBody => (event.len(), event.len() / 2),
                    _ => (event.len() + 5, event.len()),
                };
                out.extend_from_slice(format!("{announced:x}\r\n").as_bytes());
                out.extend_from_slice(&event[..sent]);
                if fault == Fault::CutBody {
                    return Next::Close;
                }
                out.extend_from_slice(b"\r\n");
                Next::Close
            }
            Fault::ChunkedGarbage => {
                out.extend_from_slice(b"zz\r\n");
                Next::Close
            }
            Fault::GarbageEvent => {
                batch.extend_from_slice(if voice.is_sse() { b"data: {oops:\n\n" } else { b"{oops:\n" });
                Next::Keep
            }
            _ => Next::Keep,
        };
        self.rest(voice, batch, usize::MAX);
        voice.close(batch, end);
        chunk(out, batch);
        out.extend_from_slice(b"0\r\n\r\n");
        next
    }

    /// Steps that a fault has held back, at most `most`; the event of the end if there are none.
    fn rest(&self, voice: &mut dyn Voice, out: &mut Vec<u8>, most: usize) {
        for at in (self.done..self.speech.steps()).take(most) {
            let step = self.speech.step(at, &self.sim.padding);
            (0..self.ask.choices).for_each(|choice| voice.step(out, choice, step));
        }
    }
}

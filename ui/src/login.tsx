// The door: the first person, logging in, the second factor.
import { useState } from "preact/hooks";
import { atTheDoor, get, me, post, Refusal, type Myself, type Schemas } from "./api";
import { useAsk, why } from "./parts";

export function Login() {
  const door = useAsk<Schemas["Door"]>(() => get("/api/v1/door"), []);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const [factor, setFactor] = useState(false);
  if (!door.value) return <main class="door"><p role="status">{door.error || "Starting…"}</p></main>;
  const first = door.value.first;
  const submit = async (event: Event) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(data.get(name) ?? "");
    setBusy(true);
    setError("");
    try {
      if (first && text("password") !== text("again")) throw new Error("The two passwords differ");
      const body = { name: text("name"), password: text("password"), code: text("code") || undefined };
      me.value = await post<Myself>(first ? "/api/v1/set-up" : "/api/v1/login", body);
      atTheDoor.value = "";
    } catch (failure) {
      if (failure instanceof Refusal && failure.failure.title === "second factor") setFactor(true);
      setError(why(failure));
    } finally {
      setBusy(false);
    }
  };
  return (
    <main class="door">
      <form onSubmit={submit}>
        <img src="/icon.svg" alt="" width="56" height="56" />
        <h1>Evenkeel</h1>
        {!first && atTheDoor.value && <p role="status">{atTheDoor.value}</p>}
        {first && <p>Nobody can log in yet. The code for the first person was printed when Evenkeel started; <code>journalctl -u evenkeel</code> shows it.</p>}
        {first && <label>Code of the first start<input name="code" required autocomplete="off" autofocus /></label>}
        <label>Name<input name="name" required autocomplete="username" autofocus={!first} autocapitalize="none" /></label>
        <label>Password<input name="password" type="password" required autocomplete={first ? "new-password" : "current-password"} minLength={first ? 10 : 1} /></label>
        {first && <label>Password once more<input name="again" type="password" required autocomplete="new-password" /></label>}
        {!first && factor && <label>Six digits of your authenticator<input name="code" inputMode="numeric" autocomplete="one-time-code" autofocus required /></label>}
        {error && <p class="bad" role="alert">{error}</p>}
        <button type="submit" disabled={busy}>{first ? "Make the first person" : "Log in"}</button>
      </form>
    </main>
  );
}

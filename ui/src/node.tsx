// This machine itself: its addresses, routes, names and time.
import { get, may, type Schemas } from "./api";
import { Link, time, useAsk } from "./parts";

export function NodePage() {
  const { value, error } = useAsk<Schemas["Machine"]>(() => get("/api/v1/node"), [], 5000);
  const skew = value ? Math.round((Date.now() - value["time-ms"]) / 1000) : 0;
  return (
    <section>
      <header class="page"><h1>Node</h1>{may("configure") && <Link to="/configuration?at=node">Settings of this machine</Link>}</header>
      {error && <p class="bad" role="alert">{error}</p>}
      {value && (
        <>
          <h2>Names and time</h2>
          <table>
            <tbody>
              <tr><th scope="row">Name</th><td>{value.name}{value.host !== value.name && `, the machine is ${value.host}`}</td></tr>
              <tr><th scope="row">Name servers</th><td>{value.resolvers.join(", ") || "none"}{value.search.length > 0 && `; search ${value.search.join(", ")}`}</td></tr>
              <tr><th scope="row">Time</th><td>{time(value["time-ms"])}{value["time-zone"] && `, ${value["time-zone"]} there`}{value.synchronised ? ", synchronised" : ""}{Math.abs(skew) > 5 && <span class="bad"> {Math.abs(skew)} s {skew > 0 ? "behind" : "ahead of"} this browser</span>}</td></tr>
            </tbody>
          </table>
          <h2>Interfaces and addresses</h2>
          <table>
            <thead><tr><th>Interface</th><th>State</th><th>MAC</th><th class="n">MTU</th><th>Addresses of the machine</th><th>Placed by Evenkeel</th></tr></thead>
            <tbody>
              {value.interfaces.map((i) => (
                <tr key={i.name}>
                  <td><strong>{i.name}</strong></td><td class={i.up && i.carrier ? "" : "bad"}>{i.up ? (i.carrier ? "up" : "no carrier") : "down"}</td><td>{i.mac}</td><td class="n">{i.mtu}</td>
                  <td>{i.addresses.filter((a) => !a.placed).map((a) => a.address).join(", ")}</td>
                  <td>{i.addresses.filter((a) => a.placed).map((a) => a.address).join(", ")}</td>
                </tr>
              ))}
            </tbody>
          </table>
          <h2>Routes</h2>
          <table>
            <thead><tr><th>To</th><th>By</th><th>Interface</th></tr></thead>
            <tbody>{value.routes.map((r) => <tr key={`${r.to} ${r.by} ${r.interface}`}><td>{r.to}</td><td>{r.by ?? "directly"}</td><td>{r.interface}</td></tr>)}</tbody>
          </table>
        </>
      )}
    </section>
  );
}

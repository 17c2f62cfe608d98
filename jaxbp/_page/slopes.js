// Derivatives over a longer way: of one element by another, through all formulas that lie between them.

function slope(of, by) {
  const target = key(...by), found = new Map();

  function ofElement(k, flat) {
    const place = key(k, flat);
    if (place === target) return 1;
    if (arrays[k].given) return 0;
    if (!found.has(place)) found.set(place, ofTree(mainForm(k, flat)));
    return found.get(place);
  }
  function ofTree(e) {
    if (typeof e === "number") return 0;
    const parts = e.slice(1);
    switch (e[0]) {
      case "Q":
        return ofElement(e[1], e[2]);
      case "+":
        return parts.reduce((sum, term) => sum + ofTree(term), 0);
      case "-":
        return -ofTree(e[1]);
      case "*":
        return parts.reduce((sum, factor, i) => {
          const slope = ofTree(factor);
          return slope === 0 ? sum : sum + slope * evaluate(["*", ...parts.filter((_, j) => j !== i)]);
        }, 0);
      case "/": {
        const [over, under] = parts.map((part) => evaluate(part)), [dOver, dUnder] = parts.map(ofTree);
        return dOver / under - (dUnder === 0 ? 0 : (over * dUnder) / under ** 2);
      }
      case "^":
        return typeof e[2] === "number" ? e[2] * evaluate(e[1]) ** (e[2] - 1) * ofTree(e[1]) : NaN;
      case "f":
        return ofCall(e[1], e.slice(2));
      case "[":
        return 0;
      default: // a function or a derivative without a formula: as long as nothing in it depends on what is moved
        return leavesOf(e).every((leaf) => ofElement(...leaf) === 0) ? 0 : NaN;
    }
  }
  function ofCall(name, args) {
    const values = args.map((arg) => evaluate(arg)), slopes = args.map(ofTree), [a] = values, [d] = slopes;
    switch (name) {
      case "exp":
        return Math.exp(a) * d;
      case "ln":
        return d / a;
      case "sqrt":
        return d / (2 * Math.sqrt(a));
      case "abs":
        return Math.sign(a) * d;
      case "tanh":
        return (1 - Math.tanh(a) ** 2) * d;
      case "sigmoid":
        return functions.sigmoid(a) * functions.sigmoid(-a) * d;
      case "max":
      case "min":
        return slopes[values.indexOf(functions[name](...values))];
      default:
        return NaN;
    }
  }

  const before = at, number = ofElement(...of);
  at = before;
  return number;
}

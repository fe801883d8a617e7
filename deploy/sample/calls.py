"""The kinds of calls that demo and scenarios make, and each call that was made.

What a call is to write, and how that is judged, is in judge.py.
"""

import dataclasses

CONTENT_BYTES = ((0.94, 1500, 5000), (0.99, 50000, 50000), (1.0, 480000, 480000))

# code: (what it is, how often it is made)
KINDS = {
    "W1": ("put app", 3),
    "W2": ("put profile", 4),
    "W3": ("put app intent", 4),
    "W4": ("create group", 2),
    "W5": ("update group", 5),
    "W6": ("migrate group", 3),
    "W7": ("add cluster", 2),
    "W8": ("delete cluster", 3),
    "W9": ("create logical cloud", 1),
    "W10": ("logical cloud ready", 3),
    "W11": ("terminate logical cloud", 4),
    "W12": ("create certificate", 2),
    "W12d": ("delete certificate", 3),
    "one": ("placement intent (one write)", 0),
}
# Of all four services together, or of the network controller and the monitor: the demo has neither.
# code: (what it is, which service takes it)
OTHER_KINDS = {
    "I": ("instantiate group", "orchestrator"),
    "T": ("terminate group", "orchestrator"),
    "P": ("create policy", "network"),
    "Pd": ("delete policy", "network"),
    "S": ("report status", "monitor"),
    "R": ("refresh status (a GET)", "monitor"),
}


@dataclasses.dataclass(eq=False)
class Call:
    """One attempt: a caller that tries again makes a new one, under a new token."""

    kind: str
    token: str
    name: object  # of what it is about; of an app intent with its group
    # The app, the target of a migration, the clusters of a cloud; (context, clusters) of T; (context,
    # cluster) of S; the context of R.
    other: object = None
    replaces: bool = False  # what it is about is there already
    followed: "Call | None" = None  # by the next call about the same thing
    outcome: str = ""  # the status, "hung up" or "no answer"

    @property
    def acknowledged(self):
        return self.outcome.startswith("2")

    def title(self):
        name = self.name if isinstance(self.name, str) else "/".join(self.name)
        return f"{(KINDS | OTHER_KINDS)[self.kind][0]} {name}"

    @property
    def service(self):
        """The one that takes it."""
        return OTHER_KINDS[self.kind][1] if self.kind in OTHER_KINDS else "orchestrator"


def request_of(call, chance):
    """(method, path, body) of a call."""
    body = {"token": call.token}
    match call.kind:
        case "W1":
            return "PUT", f"/apps/{call.name}", {**body, "content": content(chance)}
        case "W2":
            return "PUT", f"/profiles/{call.name}", {**body, "app": call.other}
        case "W3":
            group, intent = call.name
            return "PUT", f"/groups/{group}/intents/{intent}", {**body, "app": call.other}
        case "W6":
            return "POST", f"/groups/{call.name}/migrate", {**body, "target": call.other}
        case "W8" | "W12d" | "Pd":
            return "DELETE", f"/{PLURALS[call.kind]}/{call.name}", None
        case "W10":
            return "POST", f"/clouds/{call.name}/ready", {**body, "clusters": call.other}
        case "I":
            return "POST", f"/groups/{call.name}/instantiate", {**body, "clusters": call.other}
        case "S":
            return "POST", f"/groups/{call.name}/status", {**body, "cluster": call.other[1]}
        case "R":
            return "GET", f"/groups/{call.name}/refresh?token={call.token}", None
        case "W5" | "W11" | "T" as kind:
            verb = {"W5": "update", "W11": "terminate", "T": "terminate"}[kind]
            return "POST", f"/{PLURALS[kind]}/{call.name}/{verb}", body
        case "one":
            return "PUT", f"/groups/{call.name}/placement", body
    return "PUT", f"/{PLURALS[call.kind]}/{call.name}", body


PLURALS = {
    "W4": "groups",
    "W5": "groups",
    "W7": "clusters",
    "W8": "clusters",
    "W9": "clouds",
    "W11": "clouds",
    "W12": "certificates",
    "W12d": "certificates",
    "T": "groups",
    "P": "policies",
    "Pd": "policies",
}


def content(chance):
    draw = chance.random()
    _, low, high = next(entry for entry in CONTENT_BYTES if draw <= entry[0])
    return chance.randbytes(chance.randint(low, high) // 2).hex()

"""Contains the language of the demo corpus: facts, wordings, and kinds of subject.

Pure tables, without randomness. In a wording `{s}` is the subject ("the Harlow Bridge", "the bridge") and `{a}` the
answer. A fact that begins with `{s} ` can be joined to another one about the same subject with "and".
"""

from dataclasses import dataclass

BUILDING, BRIDGE, SHIP, PERSON = "building", "bridge", "ship", "person"
BUILT = (BUILDING, BRIDGE)
THINGS = (BUILDING, BRIDGE, SHIP)

KINDS: dict[str, tuple[str, ...]] = {
    BUILDING: ("museum", "castle", "library", "theatre", "lighthouse", "school", "station", "mill", "chapel",
               "hospital", "hotel", "tower"),
    BRIDGE: ("bridge", "viaduct", "footbridge"),
    SHIP: ("ferry", "steamer", "schooner", "barge"),
    PERSON: ("painter", "engineer", "poet", "doctor", "composer", "explorer", "teacher", "sculptor", "inventor"),
}  # fmt: skip


@dataclass(frozen=True)
class Relation:
    """A kind of fact about a subject, with its wordings and those of the question for it."""

    name: str
    answer_type: str
    groups: tuple[str, ...]
    facts: tuple[str, ...]
    questions: tuple[str, ...]


def _year(name: str, groups: tuple[str, ...], done: str, said: tuple[str, ...], asked: str, when: str) -> Relation:
    """Returns a relation answered by a year; `done` follows the subject, `asked` and `when` follow "In which year"."""
    facts = (f"{{s}} {done} in {{a}}", f"In {{a}}, {{s}} {done}", *said)
    return Relation(name, "year", groups, facts, (f"When {asked}?", f"In which year {asked}?", f"In what year {when}?"))


def _who(name: str, groups: tuple[str, ...], facts: tuple[str, ...], questions: tuple[str, ...]) -> Relation:
    return Relation(name, "person", groups, facts, questions)


def _where(name: str, groups: tuple[str, ...], facts: tuple[str, ...], questions: tuple[str, ...]) -> Relation:
    return Relation(name, "place", groups, facts, questions)


def _day(name: str, groups: tuple[str, ...], facts: tuple[str, ...], asked: str) -> Relation:
    questions = (f"On which day {asked}?", f"On which day of the week {asked}?")
    return Relation(name, "day", groups, facts, questions)


def _colour(part: str, groups: tuple[str, ...]) -> Relation:
    facts = (f"{{s}} has a {{a}} {part}", f"The {part} of {{s}} is {{a}}", f"The {part} of {{s}} was painted {{a}}")
    questions = (f"What colour is the {part} of {{s}}?", f"Which colour does the {part} of {{s}} have?")
    return Relation(f"{part}_colour", "colour", groups, facts, questions)


def _owned_colour(item: str) -> Relation:
    facts = (f"{{s}} owned a {{a}} {item}", f"The {item} that {{s}} liked best was {{a}}")
    questions = (f"What colour was the {item} of {{s}}?", f"Which colour did the {item} of {{s}} have?")
    return Relation(f"{item}_colour", "colour", (PERSON,), facts, questions)


def _material(part: str, groups: tuple[str, ...]) -> Relation:
    facts = (f"The {part} of {{s}} is made of {{a}}", f"{{s}} has a {part} made of {{a}}",
             f"{{a}} was used for the {part} of {{s}}")  # fmt: skip
    questions = (f"What is the {part} of {{s}} made of?", f"Which material was used for the {part} of {{s}}?")
    return Relation(f"{part}_material", "material", groups, facts, questions)


def _count(noun: str, group: str, place: str) -> Relation:
    facts = (f"{{s}} has {{a}} {noun}", f"There are {{a}} {noun} {place} {{s}}", f"{{s}} is known for its {{a}} {noun}")
    questions = (f"How many {noun} does {{s}} have?", f"How many {noun} are there {place} {{s}}?")
    return Relation(f"{noun}_{group}", "count", (group,), facts, questions)


def _owned_count(noun: str) -> Relation:
    facts = (f"{{s}} had {{a}} {noun}", f"Letters tell that {{s}} had {{a}} {noun}", f"{{s}} was proud of {{a}} {noun}")
    questions = (f"How many {noun} did {{s}} have?", f"What number of {noun} did {{s}} have?")
    return Relation(f"{noun}_{PERSON}", "count", (PERSON,), facts, questions)


def _metres(name: str, groups: tuple[str, ...], adjective: str) -> Relation:
    facts = (f"{{s}} is {{a}} {adjective}", f"The {name} of {{s}} is {{a}}", f"{{s}} has a {name} of {{a}}")
    return Relation(name, "metres", groups, facts, (f"How {adjective} is {{s}}?", f"What is the {name} of {{s}}?"))


YEARS = (
    _year("built", BUILT, "was built", ("The builders finished {s} in {a}",), "was {s} built",
          "did the builders finish {s}"),
    _year("repaired", THINGS, "was repaired", ("Repairs to {s} were made in {a}",), "was {s} repaired",
          "were repairs made to {s}"),
    _year("extended", THINGS, "was extended", ("{s} was made larger in {a}",), "was {s} extended",
          "was {s} made larger"),
    _year("opened", BUILT, "was opened", ("{s} received its first visitors in {a}",), "was {s} opened",
          "did {s} receive its first visitors"),
    _year("fire", THINGS, "was damaged by fire", ("A fire broke out on the site of {s} in {a}",),
          "was {s} damaged by fire", "did a fire damage {s}"),
    _year("sold", THINGS, "was sold", ("{s} found a new owner in {a}",), "was {s} sold", "did {s} find a new owner"),
    _year("protected", THINGS, "was declared a monument", ("{s} has been protected by law since {a}",),
          "was {s} declared a monument", "was {s} protected by law"),
    _year("repainted", THINGS, "was repainted", ("{s} got a fresh coat of paint in {a}",), "was {s} repainted",
          "did {s} get a fresh coat of paint"),
    _year("lit", THINGS, "received electric light", ("The first electric lamps of {s} were lit in {a}",),
          "did {s} receive electric light", "were the first electric lamps of {s} lit"),
    _year("closed", THINGS, "was closed for a while", ("{s} had to close in {a}",), "was {s} closed for a while",
          "did {s} have to close"),
    _year("planned", THINGS, "was planned", ("The idea for {s} was born in {a}",), "was {s} planned",
          "was the idea for {s} born"),
    _year("launched", (SHIP,), "was launched", ("{s} touched the water for the first time in {a}",),
          "was {s} launched", "did {s} touch the water for the first time"),
    _year("voyage", (SHIP,), "made its first voyage", ("The first voyage of {s} took place in {a}",),
          "did {s} make its first voyage", "did the first voyage of {s} take place"),
    _year("engine", (SHIP,), "received a new engine", ("A new engine was fitted to {s} in {a}",),
          "did {s} receive a new engine", "was a new engine fitted to {s}"),
    _year("born", (PERSON,), "was born", ("{s} came into the world in {a}",), "was {s} born",
          "did {s} come into the world"),
    _year("school", (PERSON,), "left school", ("{s} finished school in {a}",), "did {s} leave school",
          "did {s} finish school"),
    _year("married", (PERSON,), "got married", ("The wedding of {s} took place in {a}",), "did {s} get married",
          "did the wedding of {s} take place"),
    _year("prize", (PERSON,), "won a prize", ("{s} was given a medal in {a}",), "did {s} win a prize",
          "was {s} given a medal"),
    _year("abroad", (PERSON,), "moved abroad", ("{s} left the country in {a}",), "did {s} move abroad",
          "did {s} leave the country"),
    _year("famous", (PERSON,), "became famous", ("Newspapers first praised {s} in {a}",), "did {s} become famous",
          "did newspapers first praise {s}"),
    _year("retired", (PERSON,), "retired", ("{s} stopped working in {a}",), "did {s} retire", "did {s} stop working"),
    _year("died", (PERSON,), "died", ("The death of {s} came in {a}",), "did {s} die", "did the death of {s} come"),
)  # fmt: skip

PEOPLE = (
    _who("designer", THINGS, ("{s} was designed by {a}", "{a} designed {s}", "The designer of {s} was {a}"),
         ("Who designed {s}?", "Who was the designer of {s}?", "By whom was {s} designed?")),
    _who("donor", THINGS, ("{s} was paid for by {a}", "{a} gave the money for {s}"), ("Who paid for {s}?",
          "Who gave the money for {s}?")),
    _who("owner", THINGS, ("{s} belongs to {a}", "{a} is the owner of {s}"), ("Who is the owner of {s}?",
          "Who does {s} belong to?")),
    _who("ribbon", BUILT, ("{s} was inaugurated by {a}", "{a} cut the ribbon for {s}"), ("Who inaugurated {s}?",
          "Who cut the ribbon for {s}?")),
    _who("restorer", THINGS, ("{s} was restored by {a}", "{a} led the restoration of {s}"), ("Who restored {s}?",
          "Who led the restoration of {s}?")),
    _who("caretaker", BUILT, ("{s} is looked after by {a}", "{a} is the caretaker of {s}"), ("Who looks after {s}?",
          "Who is the caretaker of {s}?")),
    _who("author", THINGS, ("{a} wrote a book about {s}", "A book about {s} was written by {a}"),
         ("Who wrote a book about {s}?", "Who is the author of the book about {s}?")),
    _who("artist", THINGS, ("{a} painted a picture of {s}", "A picture of {s} was painted by {a}"),
         ("Who painted a picture of {s}?", "Who was the artist of the picture of {s}?")),
    _who("photographer", THINGS, ("{a} took the first photograph of {s}",
          "The first photograph of {s} was taken by {a}"),
         ("Who took the first photograph of {s}?", "Who photographed {s} first?")),
    _who("captain", (SHIP,), ("{a} is the captain of {s}", "{s} is commanded by {a}"),
          ("Who is the captain of {s}?", "Who commands {s}?")),
    _who("cook", (SHIP,), ("{a} cooks for the crew of {s}", "The cook of {s} is {a}"),
          ("Who cooks for the crew of {s}?", "Who is the cook of {s}?")),
    _who("tutor", (PERSON,), ("{s} was taught by {a}", "{a} gave lessons to {s}"), ("Who taught {s}?",
          "Who gave lessons to {s}?")),
    _who("spouse", (PERSON,), ("{s} was married to {a}", "{a} and {s} were a married couple"),
          ("Who was {s} married to?", "Who married {s}?")),
    _who("friend", (PERSON,), ("The best friend of {s} was {a}", "{s} was a close friend of {a}"),
         ("Who was the best friend of {s}?", "Who was a close friend of {s}?")),
    _who("rival", (PERSON,), ("The great rival of {s} was {a}", "{s} often competed with {a}"),
         ("Who was the great rival of {s}?", "Who did {s} often compete with?")),
    _who("idol", (PERSON,), ("{s} admired {a}", "The hero of {s} was {a}"), ("Who did {s} admire?",
          "Who was the hero of {s}?")),
    _who("employer", (PERSON,), ("{s} worked for {a}", "{a} was the employer of {s}"), ("Who did {s} work for?",
          "Who was the employer of {s}?")),
    _who("portrait", (PERSON,), ("{a} drew a portrait of {s}", "A portrait of {s} was drawn by {a}"),
         ("Who drew a portrait of {s}?", "By whom was a portrait of {s} drawn?")),
)  # fmt: skip

PLACES = (
    _where("located", BUILT, ("{s} stands in {a}", "{s} is located in {a}"), ("Where is {s} located?",
          "In which town does {s} stand?")),
    _where("stone", BUILT, ("The stone for {s} came from {a}", "{s} was built with stone from {a}"),
           ("Where did the stone for {s} come from?", "Which town supplied the stone for {s}?")),
    _where("plans", THINGS, ("The old plans of {s} are kept in {a}", "An archive in {a} keeps the old plans of {s}"),
           ("Where are the old plans of {s} kept?", "In which town are the old plans of {s}?")),
    _where("bell", THINGS, ("The bell of {s} was cast in {a}", "{s} has a bell from {a}"),
           ("Where was the bell of {s} cast?", "Which town does the bell of {s} come from?")),
    _where("copy", THINGS, ("A copy of {s} can be seen in {a}", "{a} has a copy of {s}"),
           ("Where can a copy of {s} be seen?", "Which town has a copy of {s}?")),
    _where("road", BUILT, ("A straight road leads from {s} to {a}", "{s} lies at the start of the road to {a}"),
           ("Where does the road from {s} lead?", "Which town does the road from {s} lead to?")),
    _where("clock", BUILT, ("The clock of {s} was made in {a}", "{s} has a clock from {a}"),
           ("Where was the clock of {s} made?", "Which town does the clock of {s} come from?")),
    _where("home", (SHIP,), ("The home port of {s} is {a}", "{s} is at home in {a}"),
          ("What is the home port of {s}?", "Where is {s} at home?")),
    _where("yard", (SHIP,), ("{s} was built in {a}", "A shipyard in {a} built {s}"), ("Where was {s} built?",
          "In which town was the shipyard that built {s}?")),
    _where("winter", (SHIP,), ("{s} spends the winter in {a}", "In winter, {s} stays in {a}"),
           ("Where does {s} spend the winter?", "In which town does {s} stay in winter?")),
    _where("cargo", (SHIP,), ("{s} carries grain to {a}", "The grain that {s} carries is sold in {a}"),
           ("Where does {s} carry grain?", "In which town is the grain of {s} sold?")),
    _where("birthplace", (PERSON,), ("{s} was born in {a}", "The birthplace of {s} is {a}"), ("Where was {s} born?",
          "What is the birthplace of {s}?")),
    _where("childhood", (PERSON,), ("{s} grew up in {a}", "{s} spent a happy childhood in {a}"),
           ("Where did {s} grow up?", "In which town did {s} spend a happy childhood?")),
    _where("studies", (PERSON,), ("{s} studied in {a}", "{s} went to university in {a}"), ("Where did {s} study?",
          "In which town did {s} go to university?")),
    _where("office", (PERSON,), ("{s} worked in {a}", "{s} kept an office in {a}"), ("Where did {s} work?",
          "In which town did {s} keep an office?")),
    _where("holiday", (PERSON,), ("{s} spent the summers in {a}", "Every summer, {s} travelled to {a}"),
           ("Where did {s} spend the summers?", "Where did {s} travel every summer?")),
    _where("grave", (PERSON,), ("{s} is buried in {a}", "The grave of {s} is in {a}"), ("Where is {s} buried?",
          "In which town is the grave of {s}?")),
    _where("statue", (PERSON,), ("A statue of {s} stands in {a}", "{a} put up a statue of {s}"),
           ("Where does a statue of {s} stand?", "Which town put up a statue of {s}?")),
)  # fmt: skip

DAYS = (
    _day("rest", BUILT, ("{s} is closed every {a}", "Nobody can enter {s} on a {a}"), "is {s} closed"),
    _day("cleaning", THINGS, ("{s} is cleaned every {a}", "Every {a}, the floors of {s} are swept"), "is {s} cleaned"),
    _day("free", BUILT, ("Entry to {s} is free every {a}", "Every {a}, nobody has to pay at {s}"),
          "is entry to {s} free"),
    _day("concert", THINGS, ("Concerts are held at {s} every {a}", "Every {a}, music is played at {s}"),
          "are concerts held at {s}"),
    _day("check", THINGS, ("{s} is inspected every {a}", "Every {a}, an expert checks {s}"), "is {s} inspected"),
    _day("market", BUILT, ("A market takes place beside {s} every {a}",
          "Every {a}, traders put up a market beside {s}"),
         "does a market take place beside {s}"),
    _day("departure", (SHIP,), ("{s} departs every {a}", "Every {a}, {s} leaves the harbour"), "does {s} depart"),
)  # fmt: skip

RELATIONS: tuple[Relation, ...] = (
    *YEARS, *PEOPLE, *PLACES, *DAYS,
    *(_colour(part, (BUILDING,)) for part in ("roof", "door", "ceiling", "floor", "fence")),
    *(_colour(part, (BRIDGE,)) for part in ("gate", "sign", "handrail")),
    *(_colour(part, (SHIP,)) for part in ("hull", "deck", "funnel", "cabin", "flag")),
    *(_owned_colour(item) for item in ("hat", "coat", "bicycle", "umbrella")),
    *(_material(part, (BUILDING,)) for part in ("roof", "door", "ceiling", "floor", "staircase")),
    *(_material(part, (BRIDGE,)) for part in ("gate", "handrail", "roadway")),
    *(_material(part, (SHIP,)) for part in ("hull", "deck", "rudder")),
    *(_count(noun, BUILDING, "in") for noun in ("windows", "rooms", "doors", "stairs", "statues")),
    *(_count(noun, BRIDGE, "on") for noun in ("lamps", "benches", "steps", "towers")),
    *(_count(noun, SHIP, "on") for noun in ("cabins", "lifeboats", "sailors", "masts")),
    *(_owned_count(noun) for noun in ("children", "brothers", "books", "students", "cats", "horses")),
    _metres("length", THINGS, "long"), _metres("height", THINGS, "high"), _metres("width", THINGS, "wide"),
)  # fmt: skip
# Years after the birth of a person or the first plan for a thing, fewest and most; other years: OTHER_YEARS.
YEARS_AFTER = {
    "born": (0, 5), "school": (14, 20), "married": (21, 55), "abroad": (18, 60), "famous": (22, 65), "prize": (23, 70),
    "retired": (55, 70), "died": (71, 95), "planned": (0, 5), "built": (6, 12), "launched": (6, 12),
          "opened": (8, 15), "voyage": (8, 15),
}  # fmt: skip
OTHER_YEARS = (14, 149)
FEW = ("towers", "masts", "lifeboats", "doors", "children", "brothers", "cats", "horses")
METRES = {"length": (40, 399), "height": (10, 90), "width": (5, 40)}
RELATION_IDS = {relation.name: index for index, relation in enumerate(RELATIONS)}

COLOURS = (
    "red",
    "blue",
    "green",
    "yellow",
    "white",
    "black",
    "brown",
    "grey",
    "purple",
    "pink",
    "turquoise",
    "golden",
    "silver",
)
MATERIALS = (
    "stone",
    "brick",
    "oak",
    "iron",
    "glass",
    "marble",
    "slate",
    "copper",
    "clay",
    "bronze",
    "granite",
    "pine",
    "steel",
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBER_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

FIRST_NAMES = (
    "Anna", "Clara", "Edith", "Flora", "Greta", "Helen", "Ida", "Julia", "Karin", "Laura", "Maria", "Nora", "Olga",
          "Paula", "Rosa",
    "Sofia", "Tilda", "Vera", "Adam", "Bruno", "Carl", "David", "Emil", "Felix", "Georg", "Henry", "Ivan", "Jonas",
          "Leo", "Martin",
    "Oscar", "Peter", "Robert", "Simon", "Thomas", "Victor",
)  # fmt: skip
SURNAME_PIECES = (
    ("Al", "Bar", "Bren", "Cor", "Dal", "Fen", "Gar", "Hol", "Jar", "Kel", "Lam", "Mer", "Nor", "Ost", "Pel", "Ran",
          "Sel", "Tor", "Vel", "Wen"),
    ("bert", "dine", "gren", "hart", "kin", "lund", "man", "nell", "quist", "ric", "sen", "son", "ter", "vik",
          "wright", "zer"),
)  # fmt: skip
TOWN_PIECES = (
    ("Ash", "Birk", "Clay", "Dun", "East", "Fair", "Gold", "Hay", "Kings", "Lang", "Mill", "North", "Oak", "Penn",
          "Rock", "Sand", "Thorn", "Up",
     "West", "Yar"),
    ("bourne", "bury", "by", "combe", "dale", "den", "field", "ford", "gate", "ham", "hurst", "leigh", "mouth",
          "port", "stead", "ton", "wick",
     "worth"),
)  # fmt: skip
SUBJECT_PIECES = (
    ("Alder", "Bram", "Crow", "Deer", "Elm", "Falcon", "Fox", "Hazel", "Heron", "Ivy", "Larch", "Linden", "Maple",
          "Otter", "Raven", "Rowan",
     "Swan", "Thistle", "Wolf", "Wren"),
    ("beck", "cliff", "crest", "dell", "fell", "glen", "haven", "holm", "low", "mere", "moor", "ridge", "shaw",
          "thorpe", "vale", "well"),
)  # fmt: skip

INTRODUCTIONS: dict[str, tuple[str, ...]] = {
    BUILDING: ("{s} is known far and wide", "{s} is one of the sights of the region", "Many visitors come to see {s}"),
    BRIDGE: ("{s} is a well-known landmark", "{s} crosses a quiet river", "Thousands of people use {s}"),
    SHIP: (
        "{s} is a familiar sight on the coast",
        "{s} has sailed through many storms",
        "Every child on the coast knows {s}",
    ),
    PERSON: (
        "{s} is remembered as {k}",
        "{s} was {k} with many friends",
        "Much has been written about {s}, who was {k}",
    ),
}
FILLERS: dict[str, tuple[str, ...]] = {
    BUILDING: (
        "A small shop sells postcards and maps", "Guides tell stories about the old days",
          "The rooms are warm and bright",
        "Children like to play in the yard", "There is a quiet garden behind it", "School classes often come here",
        "In the evening the lights can be seen from far away", "Old letters were found under the boards",
        "A local club helps to keep everything in order", "Tea and cake are served near the entrance",
    ),
    BRIDGE: (
        "Boats pass slowly under the arches", "Fishermen like to stand here in the morning",
          "The view over the water is beautiful",
        "Traffic is heavy on working days", "Swallows build their nests under the beams",
          "Cyclists and walkers share the way",
        "On clear nights the lights shine on the water", "In autumn the fog hides it completely",
        "Travellers stop here to rest", "The current below is strong",
    ),
    SHIP: (
        "Gulls follow it out to sea", "The crew knows every rock along the shore", "Passengers enjoy the fresh air",
        "Ropes and nets lie everywhere", "The horn can be heard across the bay",
          "In rough weather it waits for calmer water",
        "Its wooden stairs are steep and narrow", "Travellers write their names in a guest book",
        "The kitchen smells of fish and coffee", "Waves have left their marks on it",
    ),
    PERSON: (
        "Many letters from those years survive", "Neighbours spoke of a kind and patient person",
          "Long walks were a daily habit",
        "Money was often short in those years", "Music was played in the house every evening",
          "The winters were long and hard",
        "Work began before sunrise", "A diary from this time has been preserved", "Visitors were always welcome",
        "Critics were not always friendly",
    ),
}  # fmt: skip
COMMON_FILLERS = (
    "The weather there changes quickly", "Many people enjoy the peace of the place",
          "Not everything is known about this",
    "Historians still discuss the details", "Some of the documents were lost", "The story is told in many families",
    "Local newspapers wrote about it", "This came as a surprise to most people",
          "It was a difficult time for the region",
    "The reasons for this are not clear", "A short film shows how it happened", "People in the area are proud of it",
    "The river and the hills are not far away", "Nothing like this had been seen before",
          "An exhibition shows some of the old tools",
    "In spring the meadows are full of flowers", "Snow covers the hills for many weeks",
          "The trees along the path are very old",
    "Most of the work was done by hand", "Good food and simple inns can be found nearby",
          "The railway brought new guests",
    "Life in the region was simple", "It took a long time to collect all the papers",
          "Today there are signs in several languages",
)  # fmt: skip

"""Word lists of the simulated catalogue: a topic is hidden from the pipeline, its words are not. Synopses and names
are put together from them, so that a person can read a shelf and a model can learn from the text.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """One hidden topic and the words that show it."""

    genres: tuple[str, ...]
    lowest_ages: tuple[int, ...]  # maturity of its titles is one of these
    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    places: tuple[str, ...]
    roles: tuple[str, ...]
    quests: tuple[str, ...]
    for_kids: bool = False


def _topic(genres: str, ages: tuple[int, ...], adjectives: str, nouns: str, places: str, roles: str, quests: str, for_kids: bool = False) -> Topic:
    return Topic(*(tuple(part.split(", ")) if isinstance(part, str) else part
                   for part in (genres, ages, adjectives, nouns, places, roles, quests)), for_kids)


TOPICS: tuple[Topic, ...] = (
    _topic("Animation, Family", (0, 0, 6), "Brave, Muddy, Merry, Sleepy, Curious, Tiny", "Otter, Hedgehog, Fox, Owl, Badger, Duckling",
           "Willow Wood, the duck pond, Clover Farm, the old barn, Bramble Hill", "a brave otter, a shy hedgehog, a pair of fox cubs, a clumsy owl, a very small bear",
           "looks for the lost river song, builds a raft with every animal of the wood, learns to share the harvest, finds the way home before winter", True),
    _topic("Animation, Comedy", (0, 6, 6), "Wobbly, Clever, Electric, Rusty, Flying, Bouncing", "Gadget, Robot, Rocket, Workshop, Submarine, Machine",
           "the garden shed, Cogtown, the toy museum, Bolt Street, the attic laboratory", "a ten-year-old inventor, a pair of twin tinkerers, a homemade robot, a grandmother with a toolbox",
           "builds a flying bathtub, fixes the town clock with spare toys, wins the science fair by accident, teaches a robot to laugh", True),
    _topic("Family, Fantasy", (0, 6, 6), "Golden, Enchanted, Silver, Moonlit, Whispering, Little", "Slipper, Lantern, Unicorn, Wishing Well, Crown, Feather",
           "the glass castle, Everbloom, the cloud village, Thistle Palace, the moon garden", "a young princess, a baker's son, a forgetful fairy, a sleepy giant",
           "breaks a spell with a riddle, rides a unicorn across the sky, returns a stolen wish, wakes the enchanted garden", True),
    _topic("Family, Adventure", (6, 6, 10), "Secret, Great, Hidden, Windy, Lucky, Summer", "Treehouse, Map, Clubhouse, Compass, Campfire, Treasure",
           "Pinecone Camp, Lighthouse Lane, Maple School, Turtle Island, the summer camp", "a gang of four school friends, a new girl in class, a trio of cousins, a boy with a map",
           "follows a map to a pirate treasure, saves the summer camp, solves the riddle of the lighthouse, wins the great raft race", True),
    _topic("Crime, Mystery", (12, 16, 16), "Cold, Drowned, Silent, Grey, Northern, Broken", "Harbour, Tide, Witness, Lighthouse, Fog, Ferry",
           "a fishing town, Grey Point, the harbour, Skerry Island, the northern coast", "a weary detective, a harbour policewoman, a retired inspector, a young pathologist",
           "reopens the case of a drowned fisherman, questions everyone on the last ferry, finds a second body under the pier, hunts a killer who leaves shells"),
    _topic("Crime, Drama", (12, 12, 16), "Guilty, Reasonable, Final, Hung, Sworn, Closing", "Verdict, Jury, Appeal, Testimony, Doubt, Oath",
           "the county court, Hall of Justice, chambers nine, the capital, a small-town courthouse", "a young defence lawyer, a tired prosecutor, an honest judge, the twelfth juror",
           "defends a client nobody believes, takes on a corrupt bank in court, uncovers a false testimony, has one night to change the verdict"),
    _topic("Crime, Thriller", (12, 16, 16), "Perfect, Midnight, Inside, Diamond, Last, Double", "Heist, Vault, Getaway, Score, Alibi, Safe",
           "Monte Carlo, the central bank, a casino, the freeport, a moving train", "a retired safe-cracker, a crew of five thieves, a con woman, a getaway driver",
           "plans one last vault job, steals a diamond from a moving train, robs the casino that ruined them, double-crosses the boss"),
    _topic("Science Fiction, Adventure", (6, 12, 12), "Distant, Outer, Silent, Lost, Stellar, Ninth", "Orbit, Colony, Signal, Nebula, Starship, Moon",
           "Kepler Station, the edge of the galaxy, a dying starship, the ninth moon, deep space", "a starship captain, the last astronaut, a colony doctor, a navigator",
           "answers a signal from beyond the galaxy, steers the colony ship through a nebula, makes first contact, must land a broken starship"),
    _topic("Science Fiction, Drama", (12, 16, 16), "Artificial, Borrowed, Synthetic, Neural, Second, Digital", "Memory, Android, Algorithm, Copy, Code, Mind",
           "Neo Lisbon, a server farm, the memory clinic, a smart city, the upload centre", "a lonely programmer, an android nurse, a memory broker, a hacker",
           "falls in love with an artificial mind, sells memories to pay a debt, discovers that she is a copy, tries to switch off the city's algorithm"),
    _topic("Horror, Mystery", (16, 18, 18), "Haunted, Hollow, Dark, Locked, Creaking, Black", "House, Cellar, Mirror, Attic, Séance, Staircase",
           "Ashgrove Manor, an empty hotel, the old asylum, a locked nursery, Raven Hall", "a grieving widow, a sceptical ghost hunter, a family of four, a night nurse",
           "hears a child behind the cellar wall, spends one night in a haunted house, opens a mirror that should stay covered, digs up a family curse"),
    _topic("Horror, Fantasy", (16, 16, 18), "Blood, Ancient, Pale, Thirsty, Wild, Red", "Vampire, Wolf, Ritual, Coven, Harvest, Moon",
           "a Carpathian village, the black forest, Harrow Fen, an abandoned abbey, the blood fields", "a village priest, a young witch, a vampire count, a folklorist",
           "stops an ancient harvest ritual, is bitten on the longest night, hunts the vampire of the abbey, joins a coven to save her sister"),
    _topic("Fantasy, Adventure", (6, 12, 12), "Burning, Frozen, Forgotten, Iron, High, Last", "Dragon, Realm, Throne, Sword, Kingdom, Rune",
           "the Frozen Realm, Dragonfall, the high kingdom, the Iron Pass, the seven towers", "an exiled prince, a dragon rider, a blacksmith's daughter, a blind mage",
           "carries a rune sword to the high kingdom, tames the last dragon, claims a burning throne, crosses the frozen realm to break an oath"),
    _topic("Western, Action", (12, 12, 16), "Dusty, Lonesome, Wild, Crooked, Dry, Long", "Saddle, Sheriff, Canyon, Bounty, Stagecoach, Trail",
           "Dry Creek, the frontier, Red Canyon, a mining town, the Texas border", "a lonesome sheriff, a bounty hunter, an outlaw with a conscience, a rancher's widow",
           "rides out for one last bounty, defends the stagecoach at Red Canyon, faces five outlaws at noon, drives the herd across the frontier"),
    _topic("War, History", (12, 16, 16), "Longest, Muddy, Last, Fallen, Winter, Broken", "Trench, Front, Convoy, Battalion, Letter, Bridge",
           "the eastern front, a besieged city, the Atlantic, a field hospital, the last bridge", "a young soldier, a field nurse, a radio operator, a captain without orders",
           "holds the bridge until dawn, carries a letter across the front, leads a convoy through the winter, must choose between orders and his battalion"),
    _topic("History, Romance", (6, 12, 12), "Royal, Secret, Scarlet, Widowed, Courtly, Forbidden", "Duchess, Court, Crown, Masquerade, Portrait, Heir",
           "Versailles, the winter palace, a duke's estate, the Habsburg court, Ravenna", "a young duchess, a court painter, a lady-in-waiting, an unwilling heir",
           "falls for the court painter, hides a royal heir, dances through a masquerade of lies, must marry for the crown"),
    _topic("Romance, Drama", (6, 12, 12), "Late, Endless, Tender, Second, Blue, Parisian", "Summer, Kiss, Letter, Promise, Spring, Goodbye",
           "an island in summer, Lisbon, a seaside hotel, Paris, a vineyard", "a stranger on a train, a young widow, a bookseller, a childhood sweetheart",
           "returns every summer to the same hotel, answers a love letter meant for someone else, has one week to say goodbye, falls in love over a vineyard"),
    _topic("Comedy, Romance", (6, 6, 12), "Big, Wrong, Perfectly, Almost, Happy, Messy", "Wedding, Bride, Honeymoon, Engagement, In-Laws, Bouquet",
           "a double-booked hotel, Naples, the family restaurant, a wedding barn, the suburbs", "a wedding planner, a runaway bride, a furious mother-in-law, the best man",
           "plans two weddings on one day, loses the ring on the way to church, fakes an engagement, invites every ex to the wedding"),
    _topic("Comedy", (6, 12, 12), "Urgent, Annual, Casual, Worst, Unpaid, Open", "Office, Meeting, Intern, Deadline, Boss, Coffee Break",
           "a paper company, the fourth floor, a failing start-up, the town council, the call centre", "a hopeless manager, the new intern, an office of misfits, a bored accountant",
           "pretends to be the boss for a week, survives the annual office party, hides a goat in the meeting room, tries to get fired"),
    _topic("Comedy, Adventure", (6, 6, 12), "Wrong, Long, Open, Borrowed, Coastal, Sunny", "Road, Camper, Detour, Motel, Highway, Postcard",
           "Route 9, the coast road, a borrowed camper van, the Alps, the desert highway", "a trio of old friends, a father with three daughters, a divorced dentist, a hitchhiking grandmother",
           "drives a camper van across the country, takes the wrong turn to a funeral, crosses the Alps in an ice-cream truck, chases a stolen dog down the highway"),
    _topic("Sport, Drama", (0, 6, 12), "Golden, Final, Extra, Underdog, Away, Heavy", "Goal, Season, Ring, Coach, Marathon, Penalty",
           "a muddy football pitch, the boxing gym, the national stadium, a third-league town, the Olympic village", "a former champion, a village football team, a young boxer, a coach in disgrace",
           "takes a village team to the cup final, trains for one last fight, runs the marathon for a lost brother, fights relegation"),
    _topic("Documentary, Food", (0, 0, 6), "Slow, Spicy, Salted, Wild, Sweet, Burnt", "Kitchen, Market, Spice, Bread, Chef, Table",
           "Oaxaca, a Kyoto noodle bar, a night market, Lyon, a village bakery", "a travelling chef, a family of bakers, a street cook, a young sommelier",
           "cooks through the night market, learns the oldest bread recipe, opens a kitchen with ten tables, looks for the perfect noodle"),
    _topic("Documentary, Nature", (0, 0, 6), "Blue, Wild, Deep, Great, Frozen, Hidden", "Ocean, Reef, Migration, Glacier, Savannah, Rainforest",
           "the Pacific, Antarctica, the Serengeti, a coral reef, the cloud forest", "a marine biologist, a wildlife cameraman, a herd of elephants, a glacier researcher",
           "follows the great migration, dives under the Antarctic ice, films a coral reef for a year, tracks the last snow leopards"),
    _topic("Music, Drama", (6, 12, 12), "Loud, Blue, Electric, Unplugged, Broken, Golden", "Chord, Encore, Vinyl, Band, Ballad, Stage",
           "a Memphis studio, the tour bus, a basement club, Berlin, the festival stage", "a washed-up singer, a garage band, a street violinist, a jazz pianist",
           "writes one last album, reunites the band for a farewell tour, goes from the street to the festival stage, loses her voice before the concert"),
    _topic("Action, Thriller", (12, 16, 16), "Double, Burned, Zero, Hostile, Red, Covert", "Agent, Cipher, Protocol, Extraction, Mole, Target",
           "East Berlin, Istanbul, a safe house, the embassy, Hong Kong", "a burned agent, a codebreaker, a double agent, an embassy guard",
           "crosses the city with a stolen cipher, finds the mole in the embassy, has twelve hours to stop an assassination, escapes from a black site"),
)

FIRST_NAMES = ("Ada", "Bruno", "Carla", "Dario", "Elif", "Femi", "Greta", "Hugo", "Ines", "Jonas", "Keiko", "Lars", "Mina", "Noor", "Otto", "Priya", "Quentin", "Rosa", "Sami", "Tilda", "Umberto", "Vera", "Wanda", "Yusuf", "Zoe")
LAST_NAMES = ("Abara", "Blum", "Castell", "Duarte", "Eklund", "Farkas", "Grieg", "Halim", "Ivory", "Jansson", "Kato", "Lindqvist", "Moreau", "Nakagawa", "Okafor", "Petrov", "Quiroga", "Rossi", "Sandoval", "Tanaka", "Ude", "Varga", "Weiss", "Xu", "Yilmaz", "Zeller")
MOTIFS = ("a red umbrella", "an unsent letter", "a stopped watch", "a paper crane", "a broken radio", "a white horse", "a burnt photograph", "a music box", "a brass key", "a yellow raincoat", "a chess game", "a torn map", "a silver coin", "a glass eye", "a storm", "a birthday cake", "a lost dog", "a green door", "a hidden staircase", "a borrowed suit", "a blackout", "an eclipse", "a cracked bell", "a typewriter", "a jar of honey", "a carousel", "a telescope", "a violin", "a snow globe", "a lottery ticket")
"""A strand, the finest hidden grouping, tells its stories around one of these, with one director."""

NUMERALS = ("", " II", " III", " IV", " V", " VI", " VII", " VIII", " IX", " X")


@dataclass(frozen=True)
class Market:
    code: str
    language: str
    utc_offset: int  # hours: a local evening is at another UTC hour
    size: float  # relative number of households


MARKETS: tuple[Market, ...] = (
    Market("US", "en", -6, 3.0), Market("FR", "fr", 1, 1.5), Market("JP", "ja", 9, 1.4), Market("GB", "en", 0, 1.5),
    Market("DE", "de", 1, 1.5), Market("BR", "pt", -3, 1.4), Market("IN", "hi", 5, 1.6), Market("ES", "es", 1, 1.0),
    Market("IT", "it", 1, 0.9), Market("KR", "ko", 9, 0.9), Market("MX", "es", -6, 1.0), Market("SE", "sv", 1, 0.6),
)
LANGUAGES = ("en", "fr", "ja", "de", "pt", "hi", "es", "it", "ko", "sv")

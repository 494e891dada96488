"""Which pictures of the games are backgrounds, and what can be seen on them: each was looked at.

A line has the name that `vga_games` gives the picture, and its caption. Pictures that are not here are close-ups of
people, titles, panels, sheets of sprites or all but copies of others. Wide ones are cut in two, `name-l` and `name-r`.
"""

QUEEN = """\
B1-l a jungle village of straw huts by a dirt path, with a sign and tall rocks, by day
B1-r a big tree and a trading post with a neon sign in a jungle village, by day
B2 the inside of a trader's hut, crowded shelves and a counter with jars
C10-l dark storm clouds at night
C10-r grey storm clouds in a blue evening sky
C11 a winding river through endless jungle, seen from the air, by day
C2 a crashed airplane among giant lily pads on a river, by day
C3 a jungle river with fallen trunks and a path, by day
C4 a river between jungle banks with banana trees, by day
C5 a path of planks over a jungle stream among vines, by day
C6 a rocky jungle path between big roots, by day
C7 a blue sky with thin clouds
C8 a blue sky over brown rocks and trees, by day
C9 an orange and purple sky at sunset
D1 a hotel room with a bed of untidy sheets, a window with red curtains, posters and a trunk
D2 a wooden storeroom with shelves full of costumes, masks and props
D3 a purple dressing room with a bed, a mirror with bulbs, dresses and a wardrobe
D4 a hotel lobby with grey columns, purple curtains and potted plants
D5 an old truck on an airfield, far mountains, by day
D6 a propeller airplane on an airfield, by day
E2-l mountains seen through the windows of an airship
E2-r a pink sky and mountains seen through the windows of an airship
E3 a sunset over a purple jungle with far mountains
F1 a giant hollow tree in the jungle, by day
F2 a dark cave prison with wooden ladders and bars
F3 a throne hall with golden statues and a purple carpet
F4-l a courtyard with golden statues, palms and a bath
F4-r a rock pool with lily pads and a waterfall by a stone terrace
F4S a rocky courtyard with a bridge over a pool and golden statues
I1-l a dark warehouse with crates and fans, at night
I1-r a dark warehouse with posts and a skylight, at night
I4 a dark warehouse with wooden beams and a metal machine, at night
I5 a propeller airplane on an airfield at night, in front of a hangar
J1 a fallen trunk over a jungle stream, by day
J2 a mossy jungle clearing with boulders, by day
J3 a jungle clearing with big roots and a sign, by day
J4 a rock wall with a stone door and a small waterfall in the jungle, by day
J5 a jungle pond with a waterfall and hanging roots, by day
J6 a jungle path past a cross carved in a trunk, by day
J7 a grassy jungle slope, by day
J8 a hollow log over a deep jungle gorge, by day
M1-l a map view of a jungle river with villages and far mountains, by day
M1-r a jungle river and brown mountains, seen from above, by day
M2 a tall overgrown rock under a blue sky with a sun, by day
N1 a garden path between flower beds to a wooden house and a white porch, by day
N11 a dark factory hall with a green gallery and a big machine
N12 a blue laboratory with a tiled floor, glass tanks and shelves
N13 a prison room with a row of bars and a desk
N14 a steel laboratory with a heavy door, green machines and cabinets
N15 the inside of a round green safe with papers
N16 a steel lift shaft in red rock
N2 a storage hall full of crates behind green railings
N3 a blue reception hall with a checkered floor, mannequins and a counter
N4 a blue hall with a checkered floor, a red couch, bookshelves and a grandfather clock
N5 a kitchen with a stove, pots, a sink and plates of food
N6 a barracks with green bunk beds and lockers
N7 a grand office with a desk, red chair, flags and a painting
N8 a long grey mine corridor with wooden beams and lamps
N9 an empty blue metal room
T1 a lake with rocks and reeds under white clouds, by day
T10-l a brown stone chamber with a round door
T10-r a cave of twisted orange roots and dark rocks
T11 purple carved stone stairs in a temple
T12 a dim stone temple room with columns and a door
T13 a blue stone temple hall with columns and an altar
T14 a red stone temple room with lizard statues and stairs
T15 a temple wall with a big stone face and a door
T16 a temple with a bright green pool of slime and a stone bridge
T17 a red temple hall with a walkway of stone beams
T18 a red temple hall with stone beams over blue water
T19 a temple throne room with a blue sky behind carved pillars
T2-l a white misty lake and a green tree, by day
T2-r a stone pyramid between two carved totems, stairs up from the water, by day
T20 a dark temple hall with columns, torch light and steps
T23 a ruined temple over blue water with a broken bridge
T24 a ruined temple with stairs, vines and a bright door
T25 a grey temple wall with a bright door, stone discs and vines
T26-r a temple chamber with a glowing pit and stone statues
T27 a cave under a temple with rubble and a statue
T3 a purple temple entrance with carved pillars and an open door
T4 a purple temple entrance with a closed stone gate
T5 a giant stone face above a round temple floor
T6 a temple ruin overgrown with roots and vines
T7 a temple room with a floor mosaic of orange tiles
T8 a blue cave with stalactites and a bright stone door
T9 a treasure chamber full of gold coins and statues
V1 a dinosaur in a jungle pool, by day
V10 brown mountains under a clear blue sky, by day
V2 a misty jungle clearing under white clouds, by day
V3 a dirt clearing in the jungle seen from above, by day
V4-l round rocks and bushes in a valley, by day
V4-r a rock wall with ferns and a heap of bones, by day
V5 a green meadow with far cliffs and trees, by day
V6 a dirt clearing with red berries in the jungle, by day
V8 an airship over a lake at a pink sunset
X1-l a very dark warehouse with crates, at night
X1-r a very dark warehouse with a lit doorway, at night
X11 a hangar with floodlights on an airfield, at sunset
X2-l dark wooden crates in a warehouse, at night
X2-r a dark warehouse with beams and a crate, at night
X6-l dark crates and a big red one, at night
X8-l dark wooden crates before a wall, at night
X8-r a big wooden crate in a dark warehouse, at night
X9 a hangar with floodlights on an airfield, at night
"""

DRASCULA = """\
1 a ruined stone gate and a crooked wall under a full moon, at night
10 a crooked village square seen from above, in a foggy night
12 the door of a village inn with street lamps, at night
13 a dark blue swamp with stumps, at night
14 a tavern with a fat innkeeper behind the counter, barrels and a piano
15 a village tavern with a long wooden table, barrels and a bat sign
16 a bedroom with a bed, a red blanket, a mirror and a green carpet
17 a small crooked house with signs in the garden, at night
18 a cluttered living room with a red armchair, posters and an old radio
19 a stone well by a palisade and a green door, at night
2 a castle on a hill above a village with a church, under a full moon, at night
20 a very dark cave with stalagmites
21 a castle wall around a green yard, at night
22 a big tree on a hill under a dark sky, at night
23 a stage with purple curtains, balloons and a long table in a blue hall
24 a castle hall with a grand staircase, red banners and a chandelier
26 a study with a desk, portraits, a bookshelf and lamps
27 a castle gallery with red carpets, portraits and columns
29 a kitchen with an orange floor, a stove, a sink and a laid table
3 a graveyard with a crypt and broken pillars, at night
30 a yellow pantry with a fridge and shelves, seen through a hole in the wall
31 a purple room with a fireplace, crossed axes and a red armchair
34 a dark blue library with bookshelves, a carpet and a mirror
35 a laboratory with shelves, a skeleton and a dark figure
4 an old house by a lake under a full moon, at night
40 a green dungeon with a drawing on the wall and light from a window
44 a dark green dungeon with chains and cobwebs
45 a crooked castle tower before a huge full moon, at night
46 a green spiral staircase of stone, seen from below
49 a laboratory with a red carpet and machines, seen through a hole in the wall
50 a dark wooden cellar with round openings
53 a mad scientist's laboratory with a red machine and a steel tube
54 a green castle cellar with an orange door and a skeleton on the wall
55 a castle cellar with a painted arch and stairs
56 a crypt with a coffin on a purple cloth, barrels and a grandfather clock
58 a green dungeon with an open stone grave and barrels
6 a purple attic with windows and an old wardrobe
7 a ruined chapel with a stained glass window and a cauldron
8 crooked village houses with a sign of a stork, at night
9 a dark village street with a street lamp, a door and heaps of rubbish, at night
101 a castle tower with a witch's hat roof before a full moon, at night
ANR_1 a castle under purple storm clouds, at night
CIELO2 the round tower and battlements of a castle from near, under a purple sky
"""

SKY = """\
64 a steel factory with gantries and furnaces, seen from a high walkway
92 a narrow street of a towering brown city, bright light from below
112 a grey recycling plant with hanging lamps and yellow stripes
131 a grey machine hall with a workbench and cranes
2062 a dark green corridor with pipes and lamps
2078 a grey hall with big fans and machines
2115 a furnace room in red light with pipes
4110 a brown city walkway between tall walls, with a far bright gap
4116 a brown city walkway with a ladder, doors and railings
4127 a brown city walkway with pipes, doors and railings
4140 a workshop with tall windows over a bright city, with screens
4143 a dark green reception room with a desk and a round emblem
4210 a wrecked aircraft between brown city walls
6158 a factory gallery with railings and a loading floor
6161 a grey factory gallery with railings and yellow stripes
6168 a factory loading bay with a brown floor and railings
6292 a factory loading bay seen through a window
8205 a white disc floating in blue cyberspace, two beams of light
8215 a checkered floor floating in blue cyberspace, a beam of light
8219 a glowing blue crystal island floating in black space
8367 a floor of grey tiles with a hole, floating in blue cyberspace
8375 a wooden floor floating in blue cyberspace, a beam of light
8384 red and grey floors in red cyberspace, a beam of light
8391 a grey tiled floor floating in crimson cyberspace
10260 an orange steel stairway in the dark
10263 a dark room full of pipes and red veins
10283 a brown machine hall overgrown with red veins
10311 a brown machine hall with a thick red vein along the wall
10325 a bright grey hall with tall machines
10330 a dark red control room with a round table
12309 a factory gallery with a yellow striped platform and railings
12381 a dark reactor room with a round blue hatch
12417 a blinding white reactor chamber
14350 towers of a huge industrial city under a brown sky
14400 a dark laboratory with green tanks, one and two
14433 a dark laboratory with green tanks, three to five
14440 a dark control room with green consoles and screens
14542 a bright round operating room with a patient and screens
16398 a sandstone city terrace with doors and round railings, by day
16405 a travel agency's front on a sandstone street with a statue, by day
16410 an insurance office with a desk, a chart and a statue
16413 a travel agent's office with flags, a globe and a mountain poster
16527 a doctor's dim surgery with a bed and arched windows
18495 a sandstone terrace with a fountain and round railings, by day
18502 a sandstone city corner with stairs, a sign and round railings, by day
18572 a warm waiting room with a blue sofa and pictures
18612 a sandstone apartment house with windows and plants, by day
18619 a living room with a bed, stools and a big picture
18625 a purple living room with a red bed, a carpet and an armchair
20494 a laboratory with three capsules holding bodies
20500 a dark corridor overgrown with red veins and pipes
20503 a tunnel of red flesh with a barred window
20506 a long tunnel of red flesh with a pipe
20507 a dark cave of red flesh with two hanging figures
20624 a grey laboratory with big cooling machines
20647 a chair among red tentacles in a blue machine hall
24590 a garden with a pool, a shed and arched railings before a cathedral, by day
24596 a garden with a blue pool and railings before a mansion, by day
24599 a garden terrace with a bench and a blue pool, by day
24602 a palm by a blue pool in a garden, by day
26638 a dark brown storage room with crates and a shelf
26644 a blue night club with tables, a bar and a staircase
26649 a red railway tunnel blocked by rubble
26650 a red railway tunnel with switches
26654 a red railway tunnel with closed doors
26667 a red railway tunnel with a hole in the wall
26668 a ruined tunnel station with a broken window
28692 a brown courtroom with benches and a round emblem
28703 a dark ruined underground station with beams and rubble
28716 a colourful living room with orange walls, a fern and a blue chair
28728 a gothic cathedral hall with a row of grey figures
28733 a green cell with a bunk and skeletons behind bars
28738 a red brown shaft with stairs, seen from below
59662 red towers of an industrial city at sunset
60081 dark red towers of a city, seen from the air
60093 red roofs of an industrial city, seen from above
60096 a red city street with bridges, seen from above
"""


ALIKE = {
    "drascula": {"45": "101"},
    "queen": {"X6": "X8"},
    "sky": {"59662": "14350", "8384": "8367", "8391": "8367"},
}
"""Rooms of games that show much the same as another one, in other colours or from nearer: they go where it goes."""


def captions(listed: str) -> dict[str, str]:
    """Caption of each picture by its name."""
    return dict(line.split(" ", 1) for line in listed.splitlines())

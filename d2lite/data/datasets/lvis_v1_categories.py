"""The 1203 categories of LVIS v1, by id: name and frequency group.

Frequency is r (rare: in up to 10 training images), c (common: up to 100) or f (frequent).
Synsets and definitions are in the dataset's own files.
"""

# Ids count from 1 in this order. "a/b": named a here and b in the files.
_TABLE = """
aerosol_can c; air_conditioner f; airplane f; alarm_clock f; alcohol c; alligator c; almond c;
ambulance c; amplifier c; anklet c; antenna f; apple f; applesauce r; apricot r; apron f;
aquarium c; arctic_(type_of_shoe) r; armband c; armchair f; armoire r; armor r; artichoke c;
trash_can f; ashtray c; asparagus c; atomizer c; avocado f; award c; awning f; ax r; baboon r;
baby_buggy f; basketball_backboard c; backpack f; handbag f; suitcase f; bagel c; bagpipe r;
baguet r; bait r; ball f; ballet_skirt r; balloon f; bamboo c; banana f; Band_Aid c; bandage c;
bandanna f; banjo r; banner f; barbell r; barge r; barrel f; barrette c; barrow c;
baseball_base f; baseball f; baseball_bat f; baseball_cap f; baseball_glove f; basket f;
basketball c; bass_horn r; bat_(animal) c; bath_mat f; bath_towel f; bathrobe c; bathtub f;
batter_(food) r; battery c; beachball r; bead c; bean_curd c; beanbag c; beanie f; bear f;
bed f; bedpan r; bedspread f; cow f; beef_(food) f; beeper r; beer_bottle f; beer_can c;
beetle r; bell f; bell_pepper f; belt f; belt_buckle f; bench f; beret c; bib c; Bible r;
bicycle f; visor f; billboard f; binder c; binoculars c; bird f; birdfeeder c; birdbath c;
birdcage c; birdhouse c; birthday_cake f; birthday_card r; pirate_flag r; black_sheep c;
blackberry c; blackboard f; blanket f; blazer c; blender f; blimp r; blinker f; blouse f;
blueberry f; gameboard r; boat f; bob r; bobbin c; bobby_pin c; boiled_egg c; bolo_tie r;
deadbolt c; bolt f; bonnet r; book f; bookcase c; booklet c; bookmark r; boom_microphone r;
boot f; bottle f; bottle_opener c; bouquet c; bow_(weapon) r; bow_(decorative_ribbons) f;
bow-tie f; bowl f; pipe_bowl r; bowler_hat c; bowling_ball r; box f; boxing_glove r;
suspenders c; bracelet f; brass_plaque r; brassiere c; bread-bin c; bread f; breechcloth r;
bridal_gown f; briefcase c; broccoli f; broach r; broom c; brownie c; brussels_sprouts c;
bubble_gum r; bucket f; horse_buggy r; horned_cow/bull c; bulldog c; bulldozer r;
bullet_train c; bulletin_board c; bulletproof_vest r; bullhorn c; bun f; bunk_bed c; buoy f;
burrito r; bus_(vehicle) f; business_card c; butter f; butterfly c; button f; cab_(taxi) f;
cabana r; cabin_car c; cabinet f; locker r; cake f; calculator c; calendar f; calf c;
camcorder c; camel c; camera f; camera_lens c; camper_(vehicle) c; can f; can_opener c;
candle f; candle_holder f; candy_bar r; candy_cane c; walking_cane c; canister c; canoe c;
cantaloup c; canteen r; cap_(headwear) f; bottle_cap f; cape c; cappuccino c;
car_(automobile) f; railcar_(part_of_a_train) f; elevator_car r; car_battery r;
identity_card c; card c; cardigan c; cargo_ship r; carnation r; horse_carriage c; carrot f;
tote_bag f; cart c; carton c; cash_register c; casserole r; cassette r; cast c; cat f;
cauliflower f; cayenne_(spice) c; CD_player c; celery f; cellular_telephone f; chain_mail r;
chair f; chaise_longue r; chalice r; chandelier f; chap r; checkbook r; checkerboard r;
cherry c; chessboard r; chicken_(animal) c; chickpea c; chili_(vegetable) c; chime r;
chinaware r; crisp_(potato_chip) c; poker_chip r; chocolate_bar c; chocolate_cake c;
chocolate_milk r; chocolate_mousse r; choker f; chopping_board f; chopstick f;
Christmas_tree f; slide c; cider r; cigar_box r; cigarette f; cigarette_case c; cistern f;
clarinet r; clasp c; cleansing_agent c; cleat_(for_securing_rope) r; clementine r; clip c;
clipboard c; clippers_(for_plants) r; cloak r; clock f; clock_tower f; clothes_hamper c;
clothespin c; clutch_bag r; coaster f; coat f; coat_hanger c; coatrack c; cock c; cockroach r;
cocoa_(beverage) r; coconut c; coffee_maker f; coffee_table f; coffeepot c; coil r; coin c;
colander c; coleslaw c; coloring_material r; combination_lock r; pacifier c; comic_book r;
compass r; computer_keyboard f; condiment f; cone f; control f; convertible_(automobile) r;
sofa_bed r; cooker r; cookie f; cooking_utensil r; cooler_(for_food) f; cork_(bottle_plug) f;
corkboard r; corkscrew c; edible_corn f; cornbread r; cornet c; cornice c; cornmeal r;
corset c; costume c; cougar r; coverall r; cowbell c; cowboy_hat f; crab_(animal) c;
crabmeat r; cracker c; crape r; crate f; crayon c; cream_pitcher r; crescent_roll c; crib c;
crock_pot c; crossbar f; crouton r; crow c; crowbar r; crown c; crucifix c; cruise_ship c;
police_cruiser c; crumb f; crutch c; cub_(animal) c; cube c; cucumber f; cufflink c; cup f;
trophy_cup c; cupboard f; cupcake f; hair_curler r; curling_iron r; curtain f; cushion f;
cylinder r; cymbal r; dagger r; dalmatian r; dartboard c; date_(fruit) r; deck_chair f; deer c;
dental_floss c; desk f; detergent r; diaper c; diary r; die r; dinghy r; dining_table f; tux r;
dish f; dish_antenna c; dishrag c; dishtowel f; dishwasher f; dishwasher_detergent r;
dispenser f; diving_board r; Dixie_cup f; dog f; dog_collar f; doll f; dollar r; dollhouse r;
dolphin c; domestic_ass c; doorknob f; doormat c; doughnut f; dove r; dragonfly r; drawer f;
underdrawers c; dress f; dress_hat c; dress_suit f; dresser f; drill c; drone r; dropper r;
drum_(musical_instrument) c; drumstick r; duck f; duckling c; duct_tape c; duffel_bag f;
dumbbell r; dumpster c; dustpan r; eagle c; earphone f; earplug r; earring f; easel c;
eclair r; eel r; egg f; egg_roll r; egg_yolk c; eggbeater c; eggplant c; electric_chair r;
refrigerator f; elephant f; elk c; envelope c; eraser c; escargot r; eyepatch r; falcon r;
fan f; faucet f; fedora r; ferret r; Ferris_wheel c; ferry c; fig_(fruit) r; fighter_jet c;
figurine f; file_cabinet c; file_(tool) r; fire_alarm f; fire_engine f; fire_extinguisher f;
fire_hose c; fireplace f; fireplug f; first-aid_kit r; fish f; fish_(food) c; fishbowl r;
fishing_rod c; flag f; flagpole f; flamingo c; flannel c; flap c; flash r; flashlight c;
fleece r; flip-flop_(sandal) f; flipper_(footwear) c; flower_arrangement f; flute_glass c;
foal c; folding_chair c; food_processor c; football_(American) c; football_helmet r;
footstool c; fork f; forklift c; freight_car c; French_toast c; freshener c; frisbee f; frog c;
fruit_juice c; frying_pan f; fudge r; funnel r; futon r; gag r; garbage r; garbage_truck c;
garden_hose c; gargle c; gargoyle r; garlic c; gasmask r; gazelle c; gelatin c; gemstone r;
generator r; giant_panda c; gift_wrap c; ginger c; giraffe f; cincture c;
glass_(drink_container) f; globe c; glove f; goat c; goggles f; goldfish r; golf_club c;
golfcart c; gondola_(boat) r; goose c; gorilla r; gourd r; grape f; grater c; gravestone c;
gravy_boat r; green_bean f; green_onion f; griddle r; grill f; grits r; grizzly c;
grocery_bag c; guitar f; gull c; gun c; hairbrush f; hairnet c; hairpin c; halter_top r; ham f;
hamburger c; hammer c; hammock c; hamper r; hamster c; hair_dryer f; hand_glass r;
hand_towel f; handcart c; handcuff r; handkerchief c; handle f; handsaw r; hardback_book r;
harmonium r; hat f; hatbox r; veil c; headband f; headboard f; headlight f; headscarf c;
headset r; headstall_(for_horses) c; heart c; heater c; helicopter c; helmet f; heron r;
highchair c; hinge f; hippopotamus r; hockey_stick r; hog c; home_plate_(baseball) f; honey c;
fume_hood f; hook f; hookah r; hornet r; horse f; hose f; hot-air_balloon r; hotplate r;
hot_sauce c; hourglass r; houseboat r; hummingbird c; hummus r; polar_bear f; icecream c;
popsicle r; ice_maker c; ice_pack r; ice_skate r; igniter c; inhaler r; iPod f;
iron_(for_clothing) c; ironing_board c; jacket f; jam c; jar f; jean f; jeep c; jelly_bean r;
jersey f; jet_plane c; jewel r; jewelry c; joystick r; jumpsuit c; kayak c; keg r; kennel r;
kettle c; key f; keycard r; kilt c; kimono c; kitchen_sink f; kitchen_table r; kite f;
kitten c; kiwi_fruit c; knee_pad f; knife f; knitting_needle r; knob f; knocker_(on_a_door) r;
koala r; lab_coat r; ladder f; ladle c; ladybug c; lamb_(animal) f; lamb-chop r; lamp f;
lamppost f; lampshade f; lantern c; lanyard f; laptop_computer f; lasagna r; latch f;
lawn_mower r; leather r; legging_(clothing) c; Lego c; legume r; lemon f; lemonade r;
lettuce f; license_plate f; life_buoy f; life_jacket f; lightbulb f; lightning_rod r; lime f;
limousine r; lion c; lip_balm c; liquor r; lizard c; log f; lollipop c;
speaker_(stero_equipment) f; loveseat c; machine_gun r; magazine f; magnet f; mail_slot c;
mailbox_(at_home) f; mallard r; mallet r; mammoth r; manatee r; mandarin_orange c; manger c;
manhole f; map f; marker f; martini r; mascot r; mashed_potato c; masher r; mask f; mast f;
mat_(gym_equipment) c; matchbox r; mattress f; measuring_cup c; measuring_stick c; meatball c;
medicine c; melon c; microphone f; microscope r; microwave_oven f; milestone r; milk f;
milk_can r; milkshake r; minivan f; mint_candy r; mirror f; mitten c; mixer_(kitchen_tool) c;
money c; monitor_(computer_equipment) computer_monitor f; monkey c; motor f; motor_scooter f;
motor_vehicle r; motorcycle f; mound_(baseball) f; mouse_(computer_equipment) f; mousepad f;
muffin c; mug f; mushroom f; music_stool r; musical_instrument c; nailfile r; napkin f;
neckerchief r; necklace f; necktie f; needle c; nest c; newspaper f; newsstand c; nightshirt c;
nosebag_(for_animals) r; noseband_(for_animals) c; notebook f; notepad c; nut f; nutcracker r;
oar f; octopus_(food) r; octopus_(animal) r; oil_lamp c; olive_oil c; omelet r; onion f;
orange_(fruit) f; orange_juice c; ostrich c; ottoman f; oven f; overalls_(clothing) c; owl c;
packet c; inkpad r; pad c; paddle f; padlock c; paintbrush c; painting f; pajamas f; palette c;
pan_(for_cooking) f; pan_(metal_container) r; pancake c; pantyhose r; papaya r; paper_plate f;
paper_towel f; paperback_book r; paperweight r; parachute c; parakeet c; parasail_(sports) c;
parasol c; parchment r; parka c; parking_meter f; parrot c; passenger_car_(part_of_a_train) c;
passenger_ship r; passport c; pastry f; patty_(food) r; pea_(food) c; peach c; peanut_butter c;
pear f; peeler_(tool_for_fruit_and_vegetables) c; wooden_leg r; pegboard r; pelican c; pen f;
pencil f; pencil_box r; pencil_sharpener r; pendulum r; penguin c; pennant r; penny_(coin) r;
pepper f; pepper_mill c; perfume c; persimmon r; person f; pet c; pew_(church_bench) c;
phonebook r; phonograph_record c; piano f; pickle f; pickup_truck f; pie c; pigeon c;
piggy_bank r; pillow f; pin_(non_jewelry) r; pineapple f; pinecone c; ping-pong_ball r;
pinwheel r; tobacco_pipe r; pipe f; pistol r; pita_(bread) c; pitcher_(vessel_for_liquid) f;
pitchfork r; pizza f; place_mat f; plate f; platter c; playpen r; pliers c;
plow_(farm_equipment) r; plume r; pocket_watch r; pocketknife c; poker_(fire_stirring_tool) c;
pole f; polo_shirt f; poncho r; pony c; pool_table r; pop_(soda) f; postbox_(public) c;
postcard c; poster f; pot f; flowerpot f; potato f; potholder c; pottery c; pouch c;
power_shovel c; prawn c; pretzel c; printer f; projectile_(weapon) c; projector c; propeller f;
prune r; pudding r; puffer_(fish) r; puffin r; pug-dog r; pumpkin c; puncher r; puppet r;
puppy c; quesadilla r; quiche r; quilt f; rabbit c; race_car r; racket c; radar r; radiator f;
radio_receiver c; radish c; raft c; rag_doll r; raincoat c; ram_(animal) c; raspberry c; rat r;
razorblade c; reamer_(juicer) c; rearview_mirror f; receipt c; recliner c; record_player c;
reflector f; remote_control f; rhinoceros c; rib_(food) r; rifle c; ring f; river_boat r;
road_map r; robe c; rocking_chair c; rodent r; roller_skate r; Rollerblade r; rolling_pin c;
root_beer r; router_(computer_equipment) c; rubber_band f; runner_(carpet) c; plastic_bag f;
saddle_(on_an_animal) f; saddle_blanket f; saddlebag c; safety_pin r; sail f; salad f;
salad_plate r; salami c; salmon_(fish) c; salmon_(food) r; salsa c; saltshaker f;
sandal_(type_of_shoe) f; sandwich f; satchel r; saucepan r; saucer f; sausage f; sawhorse r;
saxophone r; scale_(measuring_instrument) f; scarecrow r; scarf f; school_bus c; scissors f;
scoreboard f; scraper r; screwdriver c; scrubbing_brush f; sculpture c; seabird c; seahorse c;
seaplane r; seashell c; sewing_machine c; shaker c; shampoo c; shark c; sharpener r; Sharpie r;
shaver_(electric) r; shaving_cream c; shawl r; shears r; sheep f; shepherd_dog r; sherbert r;
shield c; shirt f; shoe f; shopping_bag f; shopping_cart c; short_pants f; shot_glass r;
shoulder_bag f; shovel c; shower_head f; shower_cap r; shower_curtain f;
shredder_(for_paper) r; signboard f; silo c; sink f; skateboard f; skewer c; ski f; ski_boot f;
ski_parka f; ski_pole f; skirt f; skullcap r; sled c; sleeping_bag c; sling_(bandage) r;
slipper_(footwear) c; smoothie r; snake r; snowboard f; snowman c; snowmobile c; soap f;
soccer_ball f; sock f; sofa f; softball r; solar_array c; sombrero r; soup f; soup_bowl r;
soupspoon c; sour_cream c; soya_milk r; space_shuttle r; sparkler_(fireworks) r; spatula f;
spear r; spectacles f; spice_rack c; spider c; crawfish r; sponge c; spoon f; sportswear c;
spotlight c; squid_(food) r; squirrel c; stagecoach r; stapler_(stapling_machine) c;
starfish c; statue_(sculpture) f; steak_(food) c; steak_knife r; steering_wheel f;
stepladder r; step_stool c; stereo_(sound_system) c; stew r; stirrer r; stirrup f; stool f;
stop_sign f; brake_light f; stove f; strainer c; strap f; straw_(for_drinking) f; strawberry f;
street_sign f; streetlight f; string_cheese r; stylus r; subwoofer r; sugar_bowl r;
sugarcane_(plant) r; suit_(clothing) f; sunflower c; sunglasses f; sunhat c; surfboard f;
sushi c; mop c; sweat_pants c; sweatband c; sweater f; sweatshirt f; sweet_potato c;
swimsuit f; sword c; syringe r; Tabasco_sauce r; table-tennis_table r; table f; table_lamp c;
tablecloth f; tachometer r; taco r; tag f; taillight f; tambourine r; army_tank r;
tank_(storage_vessel) f; tank_top_(clothing) f; tape_(sticky_cloth_or_paper) f; tape_measure c;
tapestry c; tarp f; tartan c; tassel c; tea_bag c; teacup c; teakettle c; teapot f;
teddy_bear f; telephone f; telephone_booth c; telephone_pole f; telephoto_lens r;
television_camera c; television_set f; tennis_ball f; tennis_racket f; tequila r;
thermometer c; thermos_bottle c; thermostat f; thimble r; thread c; thumbtack c; tiara c;
tiger c; tights_(clothing) c; timer c; tinfoil f; tinsel c; tissue_paper f; toast_(food) c;
toaster f; toaster_oven f; toilet f; toilet_tissue f; tomato f; tongs f; toolbox c;
toothbrush f; toothpaste f; toothpick f; cover f; tortilla c; tow_truck c; towel f;
towel_rack f; toy f; tractor_(farm_equipment) c; traffic_light f; dirt_bike c; trailer_truck f;
train_(railroad_vehicle) f; trampoline r; tray f; trench_coat r;
triangle_(musical_instrument) r; tricycle c; tripod f; trousers f; truck f;
truffle_(chocolate) r; trunk c; vat r; turban c; turkey_(food) c; turnip r; turtle c;
turtleneck_(clothing) c; typewriter c; umbrella f; underwear f; unicycle r; urinal f; urn c;
vacuum_cleaner c; vase f; vending_machine c; vent f; vest f; videotape c; vinegar r; violin r;
vodka r; volleyball c; vulture r; waffle c; waffle_iron r; wagon c; wagon_wheel c;
walking_stick c; wall_clock c; wall_socket f; wallet f; walrus r; wardrobe r; washbasin r;
automatic_washer c; watch f; water_bottle f; water_cooler c; water_faucet c; water_heater r;
water_jug c; water_gun r; water_scooter c; water_ski c; water_tower c; watering_can c;
watermelon f; weathervane f; webcam c; wedding_cake c; wedding_ring c; wet_suit f; wheel f;
wheelchair c; whipped_cream c; whistle c; wig c; wind_chime c; windmill c;
window_box_(for_plants) c; windshield_wiper f; windsock c; wine_bottle f; wine_bucket c;
wineglass f; blinder_(for_horses) f; wok c; wolf r; wooden_spoon c; wreath c; wrench c;
wristband f; wristlet f; yacht c; yogurt c; yoke_(animal_equipment) c; zebra f; zucchini c
"""


def _category(category_id: int, row: str) -> dict:
    names, frequency = row.strip().rsplit(maxsplit=1)
    first, _, name = names.partition("/")
    return {
        "id": category_id,
        "name": name or first,
        "synonyms": [first],
        "frequency": frequency,
    }


LVIS_CATEGORIES = [_category(i, row) for i, row in enumerate(_TABLE.split(";"), start=1)]

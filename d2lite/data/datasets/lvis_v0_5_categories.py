"""The 1230 categories of LVIS v0.5, by id: name and frequency group.

Frequency is r (rare: in up to 10 training images), c (common: up to 100) or f (frequent).
Synsets and definitions are in the dataset's own files.
"""

# Ids count from 1 in this order. "a/b": named a here and b in the files.
_TABLE = """
acorn r; aerosol_can c; air_conditioner f; airplane f; alarm_clock c; alcohol c; alligator r;
almond c; ambulance c; amplifier r; anklet c; antenna f; apple f; apple_juice r; applesauce r;
apricot r; apron f; aquarium c; armband c; armchair f; armoire r; armor r; artichoke c;
trash_can f; ashtray c; asparagus c; atomizer c; avocado c; award c; awning f; ax r;
baby_buggy f; basketball_backboard c; backpack f; handbag f; suitcase f; bagel c; bagpipe r;
baguet r; bait r; ball f; ballet_skirt r; balloon f; bamboo c; banana f; Band_Aid r; bandage c;
bandanna c; banjo r; banner f; barbell r; barge r; barrel f; barrette c; barrow c;
baseball_base f; baseball f; baseball_bat f; baseball_cap f; baseball_glove f; basket f;
basketball_hoop c; basketball c; bass_horn r; bat_(animal) r; bath_mat f; bath_towel f;
bathrobe c; bathtub f; batter_(food) r; battery c; beachball r; bead c; beaker r; bean_curd c;
beanbag c; beanie f; bear f; bed f; bedspread c; cow f; beef_(food) c; beeper r; beer_bottle f;
beer_can c; beetle r; bell f; bell_pepper f; belt f; belt_buckle f; bench f; beret c; bib c;
Bible r; bicycle f; visor f; binder c; binoculars c; bird f; birdfeeder r; birdbath r;
birdcage c; birdhouse c; birthday_cake f; birthday_card r; biscuit_(bread) r; pirate_flag r;
black_sheep c; blackboard c; blanket f; blazer c; blender f; blimp r; blinker c; blueberry c;
boar r; gameboard r; boat f; bobbin c; bobby_pin r; boiled_egg c; bolo_tie r; deadbolt c;
bolt f; bonnet r; book f; book_bag r; bookcase c; booklet c; bookmark r; boom_microphone r;
boot f; bottle f; bottle_opener c; bouquet c; bow_(weapon) r; bow_(decorative_ribbons) f;
bow-tie f; bowl f; pipe_bowl r; bowler_hat c; bowling_ball r; bowling_pin r; boxing_glove r;
suspenders c; bracelet f; brass_plaque r; brassiere c; bread-bin c; breechcloth r;
bridal_gown c; briefcase c; bristle_brush c; broccoli f; broach r; broom c; brownie c;
brussels_sprouts c; bubble_gum r; bucket f; horse_buggy r; bull c; bulldog r; bulldozer r;
bullet_train c; bulletin_board c; bulletproof_vest r; bullhorn c; corned_beef r; bun f;
bunk_bed c; buoy f; burrito r; bus_(vehicle) f; business_card c; butcher_knife c; butter c;
butterfly c; button f; cab_(taxi) f; cabana r; cabin_car r; cabinet f; locker r; cake f;
calculator c; calendar f; calf c; camcorder c; camel c; camera f; camera_lens c;
camper_(vehicle) c; can f; can_opener c; candelabrum r; candle f; candle_holder f; candy_bar r;
candy_cane c; walking_cane c; canister c; cannon r; canoe c; cantaloup r; canteen r;
cap_(headwear) c; bottle_cap f; cape r; cappuccino c; car_(automobile) f;
railcar_(part_of_a_train) f; elevator_car r; car_battery r; identity_card c; card c;
cardigan r; cargo_ship r; carnation r; horse_carriage c; carrot f; tote_bag c; cart c;
carton c; cash_register c; casserole r; cassette r; cast c; cat f; cauliflower c; caviar r;
cayenne_(spice) c; CD_player c; celery c; cellular_telephone f; chain_mail r; chair f;
chaise_longue r; champagne r; chandelier f; chap r; checkbook r; checkerboard r; cherry c;
chessboard r; chest_of_drawers_(furniture) r; chicken_(animal) c; chicken_wire c; chickpea r;
Chihuahua r; chili_(vegetable) r; chime r; chinaware r; crisp_(potato_chip) c; poker_chip r;
chocolate_bar c; chocolate_cake c; chocolate_milk r; chocolate_mousse r; choker f;
chopping_board f; chopstick c; Christmas_tree f; slide c; cider r; cigar_box r; cigarette c;
cigarette_case c; cistern f; clarinet r; clasp r; cleansing_agent c; clementine r; clip c;
clipboard c; clock f; clock_tower f; clothes_hamper c; clothespin c; clutch_bag r; coaster f;
coat f; coat_hanger c; coatrack r; cock c; coconut c; coffee_filter r; coffee_maker f;
coffee_table f; coffeepot c; coil r; coin c; colander r; coleslaw c; coloring_material r;
combination_lock r; pacifier c; comic_book r; computer_keyboard f; concrete_mixer r; cone f;
control f; convertible_(automobile) r; sofa_bed r; cookie c; cookie_jar r; cooking_utensil r;
cooler_(for_food) f; cork_(bottle_plug) c; corkboard r; corkscrew r; edible_corn c;
cornbread r; cornet c; cornice c; cornmeal r; corset r; romaine_lettuce r; costume c; cougar r;
coverall r; cowbell r; cowboy_hat f; crab_(animal) r; cracker c; crape r; crate f; crayon r;
cream_pitcher r; credit_card r; crescent_roll c; crib c; crock_pot c; crossbar f; crouton r;
crow r; crown c; crucifix c; cruise_ship c; police_cruiser c; crumb c; crutch r;
cub_(animal) c; cube r; cucumber f; cufflink c; cup f; trophy_cup c; cupcake c; hair_curler r;
curling_iron r; curtain f; cushion f; custard r; cutting_tool c; cylinder r; cymbal r;
dachshund r; dagger r; dartboard r; date_(fruit) r; deck_chair f; deer c; dental_floss c;
desk f; detergent r; diaper c; diary r; die r; dinghy r; dining_table f; tux r; dish c;
dish_antenna c; dishrag c; dishtowel c; dishwasher f; dishwasher_detergent r; diskette r;
dispenser c; Dixie_cup c; dog f; dog_collar f; doll c; dollar r; dolphin r; domestic_ass c;
eye_mask r; doorbell r; doorknob f; doormat c; doughnut f; dove r; dragonfly r; drawer f;
underdrawers c; dress f; dress_hat c; dress_suit c; dresser c; drill c; drinking_fountain r;
drone r; dropper r; drum_(musical_instrument) c; drumstick r; duck f; duckling r; duct_tape c;
duffel_bag f; dumbbell r; dumpster c; dustpan r; Dutch_oven r; eagle c; earphone f; earplug r;
earring f; easel c; eclair r; eel r; egg f; egg_roll r; egg_yolk c; eggbeater c; eggplant c;
electric_chair r; refrigerator f; elephant f; elk r; envelope c; eraser c; escargot r;
eyepatch r; falcon r; fan f; faucet f; fedora r; ferret r; Ferris_wheel c; ferry r;
fig_(fruit) r; fighter_jet c; figurine f; file_cabinet c; file_(tool) r; fire_alarm f;
fire_engine c; fire_extinguisher c; fire_hose c; fireplace f; fireplug f; fish c;
fish_(food) r; fishbowl r; fishing_boat r; fishing_rod c; flag f; flagpole f; flamingo c;
flannel c; flash r; flashlight c; fleece r; flip-flop_(sandal) f; flipper_(footwear) c;
flower_arrangement f; flute_glass c; foal r; folding_chair c; food_processor c;
football_(American) c; football_helmet r; footstool c; fork f; forklift r; freight_car r;
French_toast r; freshener c; frisbee f; frog c; fruit_juice c; fruit_salad r; frying_pan c;
fudge r; funnel r; futon c; gag r; garbage r; garbage_truck c; garden_hose c; gargle c;
gargoyle r; garlic c; gasmask r; gazelle r; gelatin c; gemstone r; giant_panda c; gift_wrap c;
ginger c; giraffe f; cincture c; glass_(drink_container) f; globe c; glove f; goat c;
goggles f; goldfish r; golf_club r; golfcart c; gondola_(boat) r; goose c; gorilla r; gourd r;
surgical_gown r; grape f; grasshopper r; grater c; gravestone c; gravy_boat r; green_bean c;
green_onion c; griddle r; grillroom r; grinder_(tool) r; grits r; grizzly c; grocery_bag c;
guacamole r; guitar f; gull c; gun c; hair_spray r; hairbrush c; hairnet c; hairpin c; ham f;
hamburger c; hammer c; hammock r; hamper r; hamster r; hair_dryer c; hand_glass r;
hand_towel f; handcart c; handcuff r; handkerchief c; handle f; handsaw r; hardback_book r;
harmonium r; hat f; hatbox r; hatch r; veil c; headband f; headboard f; headlight f;
headscarf c; headset r; headstall_(for_horses) c; hearing_aid r; heart c; heater c;
helicopter c; helmet f; heron r; highchair c; hinge f; hippopotamus r; hockey_stick r; hog c;
home_plate_(baseball) f; honey c; fume_hood f; hook f; horse f; hose f; hot-air_balloon r;
hotplate r; hot_sauce c; hourglass r; houseboat r; hummingbird r; hummus r; polar_bear c;
icecream c; popsicle r; ice_maker c; ice_pack r; ice_skate r; ice_tea r; igniter c; incense r;
inhaler r; iPod c; iron_(for_clothing) c; ironing_board r; jacket f; jam r; jean f; jeep c;
jelly_bean r; jersey f; jet_plane c; jewelry c; joystick r; jumpsuit r; kayak c; keg r;
kennel r; kettle c; key f; keycard r; kilt r; kimono c; kitchen_sink f; kitchen_table c;
kite f; kitten c; kiwi_fruit c; knee_pad f; knife f; knight_(chess_piece) r; knitting_needle r;
knob f; knocker_(on_a_door) r; koala r; lab_coat r; ladder f; ladle c; ladybug r;
lamb_(animal) c; lamb-chop r; lamp f; lamppost f; lampshade f; lantern c; lanyard f;
laptop_computer f; lasagna r; latch c; lawn_mower r; leather r; legging_(clothing) c; Lego c;
lemon f; lemonade r; lettuce f; license_plate f; life_buoy f; life_jacket f; lightbulb f;
lightning_rod r; lime c; limousine r; linen_paper r; lion c; lip_balm c; lipstick c; liquor r;
lizard r; Loafer_(type_of_shoe) r; log f; lollipop c; lotion c; speaker_(stero_equipment) f;
loveseat c; machine_gun r; magazine f; magnet f; mail_slot r; mailbox_(at_home) c; mallet r;
mammoth r; mandarin_orange c; manger c; manhole f; map c; marker c; martini r; mascot r;
mashed_potato c; masher r; mask f; mast f; mat_(gym_equipment) c; matchbox r; mattress f;
measuring_cup c; measuring_stick c; meatball c; medicine c; melon r; microphone f;
microscope r; microwave_oven f; milestone r; milk c; minivan f; mint_candy r; mirror f;
mitten c; mixer_(kitchen_tool) c; money c; monitor_(computer_equipment) computer_monitor f;
monkey c; motor f; motor_scooter f; motor_vehicle r; motorboat r; motorcycle f;
mound_(baseball) f; mouse_(animal_rodent) r; mouse_(computer_equipment) f; mousepad f;
muffin c; mug f; mushroom f; music_stool r; musical_instrument r; nailfile r; nameplate r;
napkin f; neckerchief r; necklace f; necktie f; needle r; nest c; newsstand r; nightshirt c;
nosebag_(for_animals) r; noseband_(for_animals) r; notebook f; notepad c; nut c; nutcracker r;
oar c; octopus_(food) r; octopus_(animal) r; oil_lamp c; olive_oil c; omelet r; onion f;
orange_(fruit) f; orange_juice c; oregano r; ostrich c; ottoman c; overalls_(clothing) c;
owl c; packet c; inkpad r; pad c; paddle c; padlock c; paintbox r; paintbrush c; painting f;
pajamas c; palette c; pan_(for_cooking) f; pan_(metal_container) r; pancake c; pantyhose r;
papaya r; paperclip r; paper_plate f; paper_towel f; paperback_book r; paperweight r;
parachute c; parakeet r; parasail_(sports) c; parchment r; parka r; parking_meter f; parrot c;
passenger_car_(part_of_a_train) c; passenger_ship r; passport r; pastry f; patty_(food) r;
pea_(food) c; peach c; peanut_butter c; pear c; peeler_(tool_for_fruit_and_vegetables) r;
pegboard r; pelican c; pen f; pencil c; pencil_box r; pencil_sharpener r; pendulum r;
penguin c; pennant r; penny_(coin) r; pepper c; pepper_mill c; perfume c; persimmon r; baby f;
pet r; petfood r; pew_(church_bench) r; phonebook r; phonograph_record c; piano c; pickle f;
pickup_truck f; pie c; pigeon c; piggy_bank r; pillow f; pin_(non_jewelry) r; pineapple f;
pinecone c; ping-pong_ball r; pinwheel r; tobacco_pipe r; pipe f; pistol r; pita_(bread) r;
pitcher_(vessel_for_liquid) f; pitchfork r; pizza f; place_mat f; plate f; platter c;
playing_card r; playpen r; pliers c; plow_(farm_equipment) r; pocket_watch r; pocketknife c;
poker_(fire_stirring_tool) c; pole f; police_van r; polo_shirt f; poncho r; pony c;
pool_table r; pop_(soda) f; portrait r; postbox_(public) c; postcard c; poster f; pot f;
flowerpot f; potato f; potholder c; pottery c; pouch c; power_shovel r; prawn c; printer f;
projectile_(weapon) c; projector c; propeller f; prune r; pudding r; puffer_(fish) r; puffin r;
pug-dog r; pumpkin c; puncher r; puppet r; puppy r; quesadilla r; quiche r; quilt f; rabbit c;
race_car r; racket c; radar r; radiator c; radio_receiver c; radish c; raft c; rag_doll r;
raincoat c; ram_(animal) c; raspberry c; rat r; razorblade c; reamer_(juicer) c;
rearview_mirror f; receipt c; recliner c; record_player r; red_cabbage r; reflector f;
remote_control f; rhinoceros c; rib_(food) r; rifle r; ring f; river_boat r; road_map r;
robe c; rocking_chair c; roller_skate r; Rollerblade r; rolling_pin c; root_beer r;
router_(computer_equipment) c; rubber_band f; runner_(carpet) c; plastic_bag f;
saddle_(on_an_animal) f; saddle_blanket f; saddlebag c; safety_pin r; sail c; salad c;
salad_plate r; salami r; salmon_(fish) r; salmon_(food) r; salsa r; saltshaker f;
sandal_(type_of_shoe) f; sandwich f; satchel r; saucepan r; saucer f; sausage f; sawhorse r;
saxophone r; scale_(measuring_instrument) f; scarecrow r; scarf f; school_bus c; scissors f;
scoreboard c; scrambled_eggs c; scraper r; scratcher r; screwdriver c; scrubbing_brush c;
sculpture c; seabird r; seahorse r; seaplane r; seashell c; seedling r; serving_dish c;
sewing_machine r; shaker r; shampoo c; shark r; sharpener r; Sharpie r; shaver_(electric) r;
shaving_cream c; shawl r; shears r; sheep f; shepherd_dog r; sherbert r; shield r; shirt f;
shoe f; shopping_bag c; shopping_cart c; short_pants f; shot_glass r; shoulder_bag c; shovel c;
shower_head f; shower_curtain f; shredder_(for_paper) r; sieve r; signboard f; silo c; sink f;
skateboard f; skewer c; ski f; ski_boot f; ski_parka f; ski_pole f; skirt f; sled c;
sleeping_bag c; sling_(bandage) r; slipper_(footwear) c; smoothie r; snake r; snowboard f;
snowman c; snowmobile c; soap f; soccer_ball f; sock f; soda_fountain r; carbonated_water r;
sofa f; softball r; solar_array c; sombrero r; soup c; soup_bowl r; soupspoon c; sour_cream c;
soya_milk r; space_shuttle r; sparkler_(fireworks) r; spatula f; spear r; spectacles f;
spice_rack c; spider r; sponge c; spoon f; sportswear c; spotlight c; squirrel r;
stapler_(stapling_machine) c; starfish r; statue_(sculpture) f; steak_(food) c; steak_knife r;
steamer_(kitchen_appliance) r; steering_wheel f; stencil r; stepladder r; step_stool c;
stereo_(sound_system) c; stew r; stirrer r; stirrup f; stockings_(leg_wear) c; stool f;
stop_sign f; brake_light f; stove f; strainer c; strap f; straw_(for_drinking) f; strawberry f;
street_sign f; streetlight f; string_cheese r; stylus r; subwoofer r; sugar_bowl r;
sugarcane_(plant) r; suit_(clothing) c; sunflower c; sunglasses f; sunhat c; sunscreen r;
surfboard f; sushi c; mop c; sweat_pants c; sweatband c; sweater f; sweatshirt f;
sweet_potato c; swimsuit f; sword c; syringe r; Tabasco_sauce r; table-tennis_table r; table f;
table_lamp c; tablecloth f; tachometer r; taco r; tag f; taillight f; tambourine r;
army_tank r; tank_(storage_vessel) c; tank_top_(clothing) f; tape_(sticky_cloth_or_paper) c;
tape_measure c; tapestry c; tarp f; tartan c; tassel c; tea_bag r; teacup c; teakettle c;
teapot c; teddy_bear f; telephone f; telephone_booth c; telephone_pole f; telephoto_lens r;
television_camera c; television_set f; tennis_ball f; tennis_racket f; tequila r;
thermometer c; thermos_bottle c; thermostat c; thimble r; thread c; thumbtack c; tiara c;
tiger c; tights_(clothing) c; timer c; tinfoil f; tinsel r; tissue_paper f; toast_(food) c;
toaster f; toaster_oven c; toilet f; toilet_tissue f; tomato f; tongs c; toolbox c;
toothbrush f; toothpaste f; toothpick c; cover c; tortilla c; tow_truck c; towel f;
towel_rack f; toy f; tractor_(farm_equipment) c; traffic_light f; dirt_bike r; trailer_truck c;
train_(railroad_vehicle) f; trampoline r; tray f; tree_house r; trench_coat r;
triangle_(musical_instrument) r; tricycle r; tripod c; trousers f; truck f;
truffle_(chocolate) r; trunk c; vat r; turban c; turkey_(bird) r; turkey_(food) c; turnip r;
turtle c; turtleneck_(clothing) r; typewriter r; umbrella f; underwear c; unicycle r; urinal c;
urn r; vacuum_cleaner c; valve c; vase f; vending_machine c; vent f; videotape c; vinegar r;
violin r; vodka r; volleyball r; vulture r; waffle c; waffle_iron r; wagon c; wagon_wheel c;
walking_stick c; wall_clock c; wall_socket f; wallet c; walrus r; wardrobe r; wasabi r;
automatic_washer c; watch f; water_bottle f; water_cooler c; water_faucet c; water_filter r;
water_heater r; water_jug r; water_gun r; water_scooter c; water_ski c; water_tower c;
watering_can c; watermelon c; weathervane f; webcam c; wedding_cake c; wedding_ring c;
wet_suit f; wheel f; wheelchair c; whipped_cream c; whiskey r; whistle r; wick r; wig c;
wind_chime c; windmill c; window_box_(for_plants) c; windshield_wiper f; windsock c;
wine_bottle f; wine_bucket r; wineglass f; wing_chair r; blinder_(for_horses) c; wok c; wolf r;
wooden_spoon c; wreath c; wrench c; wristband c; wristlet f; yacht r; yak r; yogurt c;
yoke_(animal_equipment) r; zebra f; zucchini c
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

// The parts of three.js that the page uses; README.md tells how three.bundle.min.js is made of them.
export {
  AmbientLight, BufferAttribute, BufferGeometry, ColorManagement, DirectionalLight, DoubleSide, LinearSRGBColorSpace, Mesh,
  MeshLambertMaterial, NoColorSpace, PerspectiveCamera, Scene, Spherical, Texture, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";

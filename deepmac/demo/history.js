// What Undo and Redo walk through: all states of the boxes of a picture.
class History {
  begin(boxes) {
    this.states = [boxes];
    this.position = 0;
  }

  // Keeps boxes, unless they are those that are seen; what could be made again before cannot any more.
  add(boxes) {
    if (JSON.stringify(boxes) === JSON.stringify(this.states[this.position])) return;
    this.position += 1;
    this.states.splice(this.position, Infinity, boxes);
  }

  // Whether there is a change to take back (-1), or to make again (1).
  reaches(by) {
    return this.position + by in this.states;
  }

  step(by) {
    this.position += by;
    return this.states[this.position];
  }
}

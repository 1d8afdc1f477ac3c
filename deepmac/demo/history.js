// What Undo and Redo walk through: all states of the boxes of each picture.
class History {
  kept = new Map(); // picture -> {states, position of the one that is seen}

  // Keeps boxes of a picture, unless they are those that are seen; what could be made again before cannot any more.
  add(boxes, picture) {
    if (!this.kept.has(picture)) this.kept.set(picture, { states: [boxes], position: 0 });
    this.now = this.kept.get(picture);
    const { states, position } = this.now;
    if (JSON.stringify(boxes) === JSON.stringify(states[position])) return;
    states.splice((this.now.position += 1), Infinity, boxes);
  }

  // Whether there is a change to take back (-1), or to make again (1).
  reaches(by) {
    return this.now.position + by in this.now.states;
  }

  step(by) {
    return this.now.states[(this.now.position += by)];
  }
}
